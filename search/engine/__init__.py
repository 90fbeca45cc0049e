"""Ray: the cluster, the Trainable that runs a trial, and the Searcher and Scheduler that ask the ledger.

It imports `ledger` and `sampler`. No other room imports Ray.
"""
