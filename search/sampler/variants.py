"""Variants: trials that reuse a finished training, because they differ from it only in what acts after training."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from golflab.search.sampler.candidates import POOL
from golflab.search.sampler.memory import Memory, Remembered
from golflab.search.sampler.problem import Problem

BEST_TRAININGS = 4  # finished trainings whose variants are considered


class Variants:
    """Draws variants of the best finished trainings, until there are as many as were asked for.

    Args:
        problem: what is searched. Without a ``training`` or parameters that act after it there are no variants.
        memory: of the trials.
        count: variants per finished training, at most.
    """

    def __init__(self, problem: Problem, memory: Memory, count: int) -> None:
        self._problem, self._memory, self.count = problem, memory, count
        after = set(problem.after_training)
        self._after = np.array([name in after for name in problem.encoding.names], dtype=bool)
        self._free: dict[Hashable, np.ndarray] = {}

    @staticmethod
    def possible(problem: Problem) -> bool:
        """Whether two trials of a problem can share a training."""
        return problem.training is not None and bool(set(problem.after_training) & set(problem.space))

    def candidates(
        self, trials: Sequence[FrozenTrial], finished: list[FrozenTrial], values: np.ndarray, rng: np.random.Generator
    ) -> tuple[set[Hashable], np.ndarray]:
        """Candidates that would reuse a finished training.

        Args:
            trials: all of them.
            finished: trials that have a value to learn from.
            values: (finished,) their values, smaller is better.
            rng: draws the candidates.

        Returns:
            Keys of the finished trainings, and (n, columns) candidates; no candidates if there are enough variants.
        """
        encoding, of = self._problem.encoding, self._memory.of
        none = np.zeros((0, encoding.columns))
        if not self.count:
            return set(), none
        order = [finished[i] for i in np.argsort(values, kind="stable") if finished[i].state == TrialState.COMPLETE]
        best = {of(t).training: of(t).row for t in reversed(order)}  # the best trial of each training
        if self.full(trials, len(best)):
            return set(best), none
        sources = [of(t) for t in order if of(t).row is best[of(t).training]][:BEST_TRAININGS]
        chosen = [sources[i % len(sources)] for i in range(2 * POOL if sources else 0)]
        if not chosen:
            return set(best), none
        rows, free = np.stack([t.row for t in chosen]), np.stack([self.free_columns(t) for t in chosen])
        # One half of the candidates differ in one or two parameters, the other half in every second one that is free.
        often = rng.choice([1.5 / self._after.sum(), 0.5], size=len(rows))
        redrawn = (rng.random(rows.shape) < often[:, None]) & free
        return set(best), encoding.settled(np.where(redrawn, encoding.draw(len(rows), rng), rows))

    def full(self, trials: Sequence[FrozenTrial], finished: int) -> set[Hashable]:
        """Trainings that no further trial may reuse: all of them once there are as many variants as were asked for."""
        started = [self._memory.of(t).training for t in trials if t.params] if self.count else []
        return set(started) if len(started) - len(set(started)) >= self.count * finished else set()

    def free_columns(self, source: Remembered) -> np.ndarray:
        """(columns,) which parameters can change without another training; one that is read while training cannot."""
        if source.training not in self._free:
            encoding, free = self._problem.encoding, self._after.copy()
            for j in map(int, np.flatnonzero(free)):
                other = source.row.copy()
                far = np.array([0.9 if source.row[j] < 0.5 else 0.1])
                other[j] = encoding.on_grid(j, far)[0] if encoding.ordinal[j] else not source.row[j]
                params = self._problem.canonical_of(encoding.params(encoding.settled(other[None])[0]))
                free[j] = self._problem.training_of(params) == source.training
            self._free[source.training] = free
        return self._free[source.training]
