"""Statistics: least squares for on/off designs, choice of pairs, intervals, significance.

It imports no other room.
"""
