"""What is known of the trials: their rows, keys and sizes, so that no trial is encoded or measured twice; and their values.

The values to learn from are those of complete trials, and estimates for stopped ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from golflab.search.sampler.encoding import Params
from golflab.search.sampler.problem import Problem

FAR = 10.0  # a value is an outlier if it is beyond the 95th percentile by this times that percentile's distance from the best
FEWEST = 5  # complete trials with a score at a step that are needed to predict final values from it


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


def scored(trials: Sequence[FrozenTrial]) -> tuple[list[FrozenTrial], np.ndarray]:
    """Trials that have a value to learn from, complete ones first, and the values (n,).

    The value of a stopped trial is predicted from its score at its last step, by a linear regression over the complete trials.
    If scores at that step do not predict the final value, the line is flat, and the trial counts as an average one.
    """
    complete = [t for t in trials if t.params and t.state == TrialState.COMPLETE and t.value is not None]
    complete = [t for t in complete if np.isfinite(t.value or 0.0)]
    found, values = list(complete), [float(t.value or 0.0) for t in complete]
    lines: dict[int, tuple[float, float] | None] = {}
    for trial in trials:
        if not trial.params or trial.state != TrialState.PRUNED or trial.last_step is None:
            continue
        step, here = trial.last_step, trial.intermediate_values[trial.last_step]
        if step not in lines:
            lines[step] = _line(complete, step)
        line = lines[step]
        if line is not None and np.isfinite(here):
            found.append(trial)
            values.append(line[0] + line[1] * here)
    return found, np.array(values)


def fence(values: np.ndarray) -> float:
    """Where values are clipped: at the 95th percentile if the worst is an outlier, else at the worst.

    One diverged run would otherwise determine the scale of the model.
    """
    best, high, worst = values.min(), np.quantile(values, 0.95, method="lower"), values.max()
    return float(high if worst - high > FAR * (high - best) else worst)


def _line(complete: Sequence[FrozenTrial], step: int) -> tuple[float, float] | None:
    """Intercept and slope of the final value over the score at a step; the slope is never negative."""
    pairs = np.array([(t.intermediate_values[step], t.value) for t in complete if step in t.intermediate_values])
    if len(pairs) < FEWEST:
        return None
    early, final = pairs.T
    spread = float(np.var(early))
    slope = max(0.0, float(np.mean((early - early.mean()) * (final - final.mean()))) / spread) if spread > 0 else 0.0
    return float(final.mean() - slope * early.mean()), slope
