"""``python -m golflab``: the command line."""

from golflab.search.cli.main import main

main()
