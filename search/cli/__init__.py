"""The command line: one function for each command, and what each needs beyond the other rooms.

Only this room (and `golflab` itself) may import all of `analysis`, `search`, `spaces` and `model`.
"""
