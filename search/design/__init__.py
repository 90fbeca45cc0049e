"""Combinations chosen before any score is known: ablations, screens, and the plan of a first search.

It imports `experiment` and `ledger`.
"""
