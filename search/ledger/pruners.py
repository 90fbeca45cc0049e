"""Pruners for any Optuna study. They wrap one another as Optuna's ``PatientPruner`` does::

    ByteBudgetPruner(limit, ReliableRungPruner(WilcoxonRungPruner()))

stops what measures too large at once, and what scores badly where such scores have been seen to predict the final one.
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
PROGRESS = "progress"  # user attribute: how much of its run the trial had done when the last of them were measured, 0 to 1
DOCUMENTS = "documents"  # user attribute: step -> score of each document, in the same order in all trials
RELIABLE = 0.6  # lower end of a rung's rank correlation with the final score from which on a score may stop a trial
FEWEST = 5  # complete trials without which nothing is said about a rung


class ByteBudgetPruner(BasePruner):
    """Prunes what will not fit, wrapping any other pruner as Optuna's ``PatientPruner`` does.

    A trial tells its measured bytes in the user attribute ``bytes`` (a list, one number per rung), and in ``progress`` how far
    it had come. Weights change while they train and so does their size after coding: 4.7 % at the most at a quarter of a
    run, 2.4 % at three quarters (docs/bytes.md), which is what ``margin`` allows for. At the end nothing is allowed.

    Args:
        limit: bytes an artifact may have, code included.
        wrapped: asked about everything that fits; None prunes nothing else.
        margin: fraction over the limit that weights may be at the start, less in proportion to what is left of the run.
    """

    def __init__(self, limit: int, wrapped: BasePruner | None = None, margin: float = 0.1) -> None:
        if limit < 1:
            raise ValueError(f"ByteBudgetPruner: limit={limit} must be a positive number of bytes.")
        if margin < 0:
            raise ValueError(f"ByteBudgetPruner: margin={margin} must not be negative.")
        self._limit, self._wrapped, self._margin = limit, wrapped or NopPruner(), margin

    def too_large(self, trial: FrozenTrial) -> bool:
        """Whether the latest measured bytes are over the limit and its margin."""
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
        trials: complete trials it is computed from.
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
        verdict = "reliable" if self.reliable else f"its lower end is under {RELIABLE:g}, so nothing is stopped for its score"
        told = f"{self.spearman:.2f} ({self.low:.2f} … {self.high:.2f}) over {self.trials} trials"
        return f"step {self.step}: rank correlation with the end {told}; {verdict}"


def agreement(trials: Iterable[FrozenTrial], step: int) -> Agreement | None:
    """The rank correlation at a step, or None while fewer than `FEWEST` complete trials were scored there."""
    return correlated(step, [score for t in trials for at, score in scores_of(t) if at == step])


def scores_of(trial: FrozenTrial) -> list[tuple[int, Score]]:
    """Step, and the score there with the final value, for every step at which a complete trial was scored."""
    if trial.state != TrialState.COMPLETE or trial.value is None:
        return []
    return [(step, (score, trial.value)) for step, score in trial.intermediate_values.items()]


def correlated(step: int, pairs: list[Score]) -> Agreement | None:
    """The rank correlation of scores at a step with final values, or None while they are too few or all the same."""
    early, final = np.array(pairs, dtype=float).reshape(-1, 2).T
    if len(pairs) < FEWEST or np.ptp(early) == 0 or np.ptp(final) == 0:
        return None
    from scipy import stats  # takes half a second, which `golflab status` of a young search need not wait for

    r = float(stats.spearmanr(early, final).statistic)
    half = 1.96 * math.sqrt((1 + r * r / 2) / (len(pairs) - 3))
    z = math.atanh(min(max(r, -0.999999), 0.999999))
    return Agreement(step, r, math.tanh(z - half), math.tanh(z + half), len(pairs))


def agreements(trials: Iterable[FrozenTrial]) -> list[Agreement]:
    """`agreement` at every step at which enough complete trials were scored, in ascending order."""
    known = [t for t in trials if t.state == TrialState.COMPLETE]
    steps = sorted({step for t in known for step in t.intermediate_values})
    return [found for step in steps if (found := agreement(known, step)) is not None]


class ReliableRungPruner(BasePruner):
    """Lets another pruner stop a trial only where scores have been seen to predict the final one.

    With a warmdown a truncated run may rank badly, and so may a schedule that is too short; nothing is stopped for its score
    until the rank correlation at its step is known to be high. Once trials are stopped, only those that were not can add to
    the correlation, which narrows their range and lowers it: then more are let through, and it is measured again.

    Args:
        wrapped: the pruner that wants to stop trials; it is always asked, since it may keep books.
        lower: what the lower end of the correlation's 95 % interval must reach.
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
    anew, so the signed-rank test pairs this rung's documents with the best trial's at this rung. A trial tells them in the
    user attribute ``documents``: step (as text) -> one score per document.

    Args:
        p_threshold: it is stopped below this p-value.
        fewest: documents without which nothing is tested.
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
