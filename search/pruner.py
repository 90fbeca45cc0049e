"""ByteBudgetPruner: stop a run whose measured bytes cannot come under the limit; leave the rest to another pruner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.pruners import BasePruner, NopPruner
from optuna.trial import FrozenTrial

if TYPE_CHECKING:
    from optuna.study import Study

BYTES = "bytes"  # user attribute: bytes measured at each rung, in order


class ByteBudgetPruner(BasePruner):
    """Prunes what will not fit, wrapping any other pruner as Optuna's ``PatientPruner`` does.

    A trial tells its measured bytes in the user attribute ``bytes`` (a list, one number per rung). Weights change while
    they train and so does their size after coding, by a percent or two, which is what ``margin`` allows for.

    Args:
        limit: bytes an artifact may have, code included.
        wrapped: asked about everything that fits; None prunes nothing else.
        margin: fraction over the limit that a rung may still be, since later weights may pack better.
    """

    def __init__(self, limit: int, wrapped: BasePruner | None = None, margin: float = 0.03) -> None:
        if limit < 1:
            raise ValueError(f"ByteBudgetPruner: limit={limit} must be a positive number of bytes.")
        if margin < 0:
            raise ValueError(f"ByteBudgetPruner: margin={margin} must not be negative.")
        self._limit, self._wrapped, self._margin = limit, wrapped or NopPruner(), margin

    def too_large(self, trial: FrozenTrial) -> bool:
        """Whether the latest measured bytes are over the limit and its margin."""
        measured = trial.user_attrs.get(BYTES) or []
        return bool(measured) and measured[-1] > self._limit * (1 + self._margin)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop the trial now."""
        return self.too_large(trial) or self._wrapped.prune(study, trial)
