"""Upkeep of experiments: their state, lists of them, copies, and studies rebuilt from records.

Take `status.status_of`, `listing.listed`, `folders` and `repair.rebuild` from here.
It imports `experiment`, `ledger` and `terminal`.
"""
