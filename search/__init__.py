"""Search: proposes combinations, schedules their trials over machines, and remembers what happened.

The rooms, each using only those below it: `cli` and `terminal`, `experiment` and `design`, `engine`, `ledger`, `sampler`.
The package can be called: ``golflab.search(preset="baseline", trials=24)`` starts a search.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Search(ModuleType):
    """This package, which can be called like the function that it is named after."""

    def __call__(self, watcher: Any = None, **options: Any) -> Any:
        """Start a search and run it to its end: `golflab.search.experiment.start.search`.

        ``prior`` may be ``"published"`` here: the effects that `golflab.analysis.evidence.prior.expected` predicts.
        """
        from golflab.search.experiment.start import search

        if "prior" in options:
            from golflab.analysis.evidence.prior import asked  # it needs pandas, which a search without a prior does not

            options["prior"] = asked(options["prior"])
        return search(watcher, **options)


sys.modules[__name__].__class__ = _Search
