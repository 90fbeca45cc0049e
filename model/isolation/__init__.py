"""Runs a program in a fresh process that sees only declared files, by Linux namespaces or under strace; reports what it reads.

Take `watch.watch_fresh` and `watch.verdict_of_files` from here.
`inside` and `enter` run in that process, and import nothing of golflab.
"""
