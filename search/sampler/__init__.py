"""Which combination to try next: candidates that fit the byte limit, ranked by models of score and size.

A combination that cannot fit the byte limit is refused in `selection` (a planned or requested one in `ledger`).
Take `fitting.FittingSampler`, `problem.Problem` and, for what is expected before any trial, `prior.Expected` from here.
It imports no other room of `search`.
"""
