"""An experiment from its options to its end: started, resumed, confirmed, bounded by its budget.

Take `start.search`, `start.resume` and `options.Options` from here.
It imports `engine`, `ledger` and `sampler`.
"""
