"""Taking care of experiments: their state, lists, copies, and studies built again from records.

Take `status.status_of`, `folders` and `repair.rebuild` from here.
It imports `experiment`, `ledger` and `terminal`.
"""
