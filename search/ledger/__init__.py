"""What is remembered: the Optuna study and its storage, trials and records, counts, pruning and byte forecasts.

`rungs` decides at each rung whether a trial must stop, and says why; `pruners` holds the rules.
Take `ledger.Ledger` from here.
It imports `sampler`.
"""
