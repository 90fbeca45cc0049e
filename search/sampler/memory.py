"""What is remembered of the trials, so that no trial is encoded or measured twice."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from golflab.search.sampler.encoding import Params
from golflab.search.sampler.problem import Problem


@dataclass
class Remembered:
    """A trial's parameters, its row of numbers, its key, its training, and its size divided by the limit."""

    params: Params
    row: np.ndarray
    key: Hashable
    training: Hashable
    overrun: float | None = None  # computed when it is first asked for


class Memory:
    """Encodes each trial once.

    Args:
        problem: that the trials belong to.
        trainings: whether trials may share a training, so that each trial's is computed.
    """

    def __init__(self, problem: Problem, trainings: bool) -> None:
        self._problem, self._trainings = problem, trainings
        self._known: dict[int, Remembered] = {}

    def of(self, trial: FrozenTrial) -> Remembered:
        """A trial's row and keys. They are computed again only if the trial's parameters have changed."""
        known = self._known.get(trial.number)
        if known is None or known.params != trial.params:
            params = trial.params
            training = self._problem.training_of(params) if self._trainings else None
            known = Remembered(params, self._problem.encoding.rows([params])[0], self._problem.key_of(params), training)
            self._known[trial.number] = known
        return known

    def rows(self, trials: Sequence[FrozenTrial]) -> np.ndarray:
        """(n, columns) encoded trials."""
        rows = [self.of(trial).row for trial in trials]
        return np.stack(rows) if rows else np.zeros((0, self._problem.encoding.columns))

    def overrun(self, trial: FrozenTrial) -> float:
        """A trial's size divided by the limit; 0 where everything fits."""
        known = self.of(trial)
        if known.overrun is None:
            known.overrun = 0.0 if self._problem.overrun is None else self._problem.overrun(known.params)
        return known.overrun
