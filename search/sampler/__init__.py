"""Which combination to try next: candidates that fit the byte limit, ranked by models of score and size.

Take `fitting.FittingSampler` and `problem.Problem` from here.
It imports no other room of `search`.
"""
