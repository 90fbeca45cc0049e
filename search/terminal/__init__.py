"""What a terminal shows: the live table, tables and recipes in words, and text that cannot break them.

It imports `engine`, `ledger` and `sampler`.
"""
