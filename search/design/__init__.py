"""Combinations chosen before any score is known: ablations, ladders, and the plan of a first search.

It imports `experiment` and `ledger`.
"""
