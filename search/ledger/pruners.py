"""Pruners for any Optuna study. They wrap one another as Optuna's ``PatientPruner`` does::

    ByteBudgetPruner(limit, ReliableRungPruner(WilcoxonRungPruner()))

stops a trial at once if its measured bytes are too large, and for a bad score only if early scores predict the final one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from optuna.pruners import BasePruner, NopPruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from optuna.study import Study

BYTES = "bytes"  # user attribute: bytes measured at each rung, in order
PROGRESS = "progress"  # user attribute: fraction of the run that was done when the last of them were measured, 0 to 1
DOCUMENTS = "documents"  # user attribute: step -> score of each document, in the same order in all trials
RELIABLE = 0.6  # a score may stop a trial if the lower end of the 95 % interval of its rank correlation reaches this
FEWEST = 5  # complete trials needed before a rung's rank correlation is computed


class ByteBudgetPruner(BasePruner):
    """Prunes trials that will not fit; wraps any other pruner, as Optuna's ``PatientPruner`` does.

    A trial reports its measured bytes in the user attribute ``bytes`` (a list, one number per rung), and in ``progress`` the
    fraction of its run that was done. Weights change while they train, and so does their size after coding: by at most 4.7 %
    after a quarter of a run, 2.4 % after three quarters (docs/bytes.md). ``margin`` allows for that; at the end it is zero.

    Args:
        limit: bytes an artifact may have, code included.
        wrapped: pruner for the trials that fit; None prunes nothing else.
        margin: fraction of the limit by which a trial may exceed it at the start of its run; it falls linearly to zero.
    """

    def __init__(self, limit: int, wrapped: BasePruner | None = None, margin: float = 0.1) -> None:
        if limit < 1:
            raise ValueError(f"ByteBudgetPruner: limit={limit} must be a positive number of bytes.")
        if margin < 0:
            raise ValueError(f"ByteBudgetPruner: margin={margin} must not be negative.")
        self._limit, self._wrapped, self._margin = limit, wrapped or NopPruner(), margin

    def too_large(self, trial: FrozenTrial) -> bool:
        """Whether the latest measured bytes exceed the limit plus its margin."""
        measured, left = trial.user_attrs.get(BYTES) or [], 1.0 - trial.user_attrs.get(PROGRESS, 0.0)
        return bool(measured) and measured[-1] > self._limit * (1 + self._margin * left)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop the trial now."""
        return self.too_large(trial) or self._wrapped.prune(study, trial)


Score = tuple[float, float]  # at a rung, and at the end


@dataclass(frozen=True)
class Agreement:
    """How well the scores at one step rank the complete trials: Spearman's correlation with the final value.

    Attributes:
        step: of the intermediate values.
        spearman: rank correlation.
        low: lower end of its 95 % interval (Fisher's z with Bonett and Wright's variance).
        high: upper end.
        trials: number of complete trials it is computed from.
    """

    step: int
    spearman: float
    low: float
    high: float
    trials: int

    @property
    def reliable(self) -> bool:
        """Whether scores at this step may stop a trial."""
        return self.low >= RELIABLE

    def __str__(self) -> str:
        numbers = f"Spearman {self.spearman:.2f}, 95 % CI {self.low:.2f} to {self.high:.2f}".replace("-", "−")
        if self.reliable:
            return f"Early stopping is possible at step {self.step}: the score there predicts the final score ({numbers})"
        problem = f"the score at step {self.step} does not yet predict the final score"
        return f"Early stopping is off: {problem} ({numbers}; needs ≥ {RELIABLE:g})"


def agreement(trials: Iterable[FrozenTrial], step: int) -> Agreement | None:
    """The rank correlation at a step, or None while fewer than `FEWEST` complete trials were scored there."""
    return correlated(step, [score for t in trials for at, score in scores_of(t) if at == step])


def scores_of(trial: FrozenTrial) -> list[tuple[int, Score]]:
    """Step, and the score there with the final value, for every step at which a complete trial was scored."""
    if trial.state != TrialState.COMPLETE or trial.value is None:
        return []
    return [(step, (score, trial.value)) for step, score in trial.intermediate_values.items()]


def correlated(step: int, pairs: list[Score]) -> Agreement | None:
    """The rank correlation of scores at a step with final values; None if they are too few or all equal."""
    early, final = np.array(pairs, dtype=float).reshape(-1, 2).T
    if len(pairs) < FEWEST or np.ptp(early) == 0 or np.ptp(final) == 0:
        return None
    r = float(np.corrcoef(_ranks(early), _ranks(final))[0, 1])
    half = 1.96 * math.sqrt((1 + r * r / 2) / (len(pairs) - 3))
    z = math.atanh(min(max(r, -0.999999), 0.999999))
    return Agreement(step, r, math.tanh(z - half), math.tanh(z + half), len(pairs))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, ties averaged: `scipy.stats` takes half a second to import, and `golflab status` must be quick."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def agreements(trials: Iterable[FrozenTrial]) -> list[Agreement]:
    """`agreement` at every step at which enough complete trials were scored, in ascending order."""
    known = [t for t in trials if t.state == TrialState.COMPLETE]
    steps = sorted({step for t in known for step in t.intermediate_values})
    return [found for step in steps if (found := agreement(known, step)) is not None]


class ReliableRungPruner(BasePruner):
    """Lets another pruner stop a trial only at steps where the score is known to predict the final score.

    With a warmdown, the score of a truncated run may say little about its end; the same holds for a schedule that is too short.
    So no trial is stopped for its score until the rank correlation at its step is known to be high. Stopping itself lowers the
    correlation, because only the better trials finish. Then trials are let through again, and it is measured anew.

    Args:
        wrapped: the pruner that may stop trials. It is asked every time, because it may keep a state.
        lower: value that the lower end of the correlation's 95 % interval must reach.
    """

    def __init__(self, wrapped: BasePruner, lower: float = RELIABLE) -> None:
        if not -1 <= lower < 1:
            raise ValueError(f"ReliableRungPruner: lower={lower} must be a correlation, at least -1 and less than 1.")
        self._wrapped, self._lower = wrapped, lower

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop the trial now."""
        wanted = self._wrapped.prune(study, trial)
        if not wanted or trial.last_step is None:
            return False
        found = agreement(study.get_trials(deepcopy=False), trial.last_step)
        return found is not None and found.low >= self._lower


class WilcoxonRungPruner(BasePruner):
    """Stops a trial that is worse than the best one at the same step, document by document.

    Optuna's ``WilcoxonPruner`` compares instances that are finished one after another; here every rung scores all documents
    again, so the signed-rank test pairs a trial's documents with the best trial's at the same rung. A trial reports them in
    the user attribute ``documents``: step (as text) -> one score per document.

    Args:
        p_threshold: a trial is stopped below this p-value.
        fewest: documents needed for a test.
    """

    def __init__(self, p_threshold: float = 0.05, fewest: int = 6) -> None:
        if not 0 < p_threshold < 1:
            raise ValueError(f"WilcoxonRungPruner: p_threshold={p_threshold} must lie between 0 and 1.")
        self._p_threshold, self._fewest = p_threshold, fewest

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop the trial now."""
        from scipy import stats

        try:
            best = study.best_trial
        except ValueError:  # none is complete
            return False
        here, there = (t.user_attrs.get(DOCUMENTS, {}).get(str(trial.last_step), ()) for t in (trial, best))
        if len(here) != len(there) or len(here) < self._fewest:
            return False
        gaps = np.array(here) - np.array(there)
        if not np.isfinite(gaps).all():
            return False
        worse = "less" if study.direction == StudyDirection.MAXIMIZE else "greater"
        return bool(stats.wilcoxon(gaps, alternative=worse, zero_method="zsplit").pvalue < self._p_threshold)
