"""What is remembered: the Optuna study and its storage, trials and records, counts, pruning and byte forecasts.

Take `ledger.Ledger` from here.
It imports `sampler`.
"""
