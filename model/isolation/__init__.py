"""A fresh process that sees only what it is shown, by Linux namespaces or under strace; and what it was seen to read.

Take `watch.watch_fresh` and `watch.verdict_of_files` from here.
`inside` and `enter` run in that process, and import nothing of golflab.
"""
