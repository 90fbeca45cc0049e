"""The command line. Its names, its flags and the keys of its JSON are a contract; stdout carries results and nothing else."""

# ruff: noqa: E402
from __future__ import annotations

from golflab.search.engine import lookup

lookup.working_folder_last()  # before anything is imported that the working folder may hold, too

import os
import sys

import typer

from golflab.search.cli import evidence, experiments, recipes, results, searches
from golflab.search.cli.arguments import err
from golflab.search.terminal.plain import say, write_what_can_be

app = typer.Typer(
    name="golflab",
    help="A laboratory for Parameter Golf: search, resume and ablate combinations of techniques under a byte limit.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for commands in (searches, results, recipes, evidence, experiments):
    app.add_typer(commands.app)


def main() -> None:
    """Run the command line: a user's mistake is one message on stderr and exit code 2."""
    lookup.working_folder_last()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait slow a busy machine many times over
    write_what_can_be(sys.stdout, sys.stderr)
    try:
        app()
    except ValueError as mistake:
        say(err, f"Error: {mistake}", style="red")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if not (file := lookup.users_file(error, lookup.ROOT)):
            raise
        say(err, f"Error: {file} cannot be imported: {type(error).__name__}: {error}", style="red")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
