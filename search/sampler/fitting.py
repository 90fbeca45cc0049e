"""FittingSampler: proposes combinations that fit, from models of the trials so far. An Optuna sampler, usable on its own::

    sampler = FittingSampler(space, overrun=lambda params: size(params) / limit, seed=0)
    study = optuna.create_study(sampler=sampler)

Candidates come from two models: a Bayesian linear model with pairwise terms and a smooth rest, of which one posterior
function is drawn and searched locally (Thompson sampling), and a multivariate TPE. What cannot fit is refused before the
best is taken, so no training is wasted on it; what may or may not fit is weighed by how likely it is to. Every proposal
depends on the seed, the trial's number and the finished trials alone: after a resume the same proposals are made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from golflab.search.sampler.candidates import POOL, Candidates, Near
from golflab.search.sampler.encoding import Encoding, Params
from golflab.search.sampler.scores import fence, scored
from golflab.search.sampler.selection import LIKELY, Proposed, Ranked, Walk, alike, ranked
from golflab.search.sampler.sizes import Sizes
from golflab.search.sampler.surrogate import Surrogate
from golflab.search.sampler.tpe import Parzen, expected_improvement, split

MOST_TRIALS = 160  # trials a model is built on: the best half and a random half of the rest
MOST_FOR_SCALES = 96  # trials its variances are chosen on
BOLDNESS = 0.3  # of Thompson sampling: near the mean while every trial teaches much,
BOLDER = 0.01  # wider with every finished trial, lest it settle
CHECKS = 64  # forecasts per proposal at most
LATELY = 64  # trials that say whether to stay near the best one, and how large what is near them is
TRUNKS = 4  # finished trainings whose variants are considered


@dataclass
class _Told:
    """What is remembered of a trial: its parameters, row, key, the training it used, and its size over the limit."""

    params: Params
    row: np.ndarray
    key: Hashable
    training: Hashable
    overrun: float | None = None  # worked out when it is asked for


class FittingSampler(BaseSampler):
    """Proposes what fits and promises most.

    Args:
        space: parameter name -> distribution.
        overrun: size over limit of what parameters describe; at most 1 fits. None: everything fits. Its answers must stay the
            same; they guide the local search.
        chance: probability that parameters fit, where the size is a forecast that changes with what is learned. What is
            under `REFUSED` is never proposed, under `LIKELY` only where nothing else is found; the rest is ranked by its
            promise times this. None: 1 or 0, by ``overrun``.
        key: what two parameter sets share when they describe the same thing; it is proposed only once.
        canonical: parameters as they will be understood (clashes resolved).
        owners: knob -> (the choice it depends on, the value that switches it on); it counts for nothing while off.
        defaults: of knobs, which they have when their technique is switched on; the middle of their range otherwise.
        starts: parameters to try first.
        design: complete trials (trainings, where they have variants) before anything is modelled; until then each proposal is
            as different from the others as can be, so that effects can be told apart.
        training: what parameter sets share that differ only after training; None where that cannot be.
        later: parameters that act after training.
        variants: trials that reuse a finished training, at most this many per training. While trials only tell parameters
            apart, the one that tells most is proposed; afterwards one that promises more than everything tried so far.
        seed: of all randomness.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        *,
        overrun: Callable[[Params], float] | None = None,
        chance: Callable[[Params], float] | None = None,
        key: Callable[[Params], Hashable] | None = None,
        canonical: Callable[[Params], Params] | None = None,
        owners: Mapping[str, tuple[str, Any]] | None = None,
        defaults: Params | None = None,
        starts: Iterable[Params] = (),
        design: int = 4,
        training: Callable[[Params], Hashable] | None = None,
        later: Iterable[str] = (),
        variants: int = 0,
        seed: int = 0,
    ) -> None:
        self._space, self._seed, self._starts, self._design = dict(space), seed, list(starts), design
        self._encoding = Encoding(space, owners, defaults)
        self._chance = chance or (lambda params: float(overrun is None or overrun(params) <= 1))
        self._refused: set[Hashable] = set()
        self._memory: dict[int, _Told] = {}
        self._free: dict[Hashable, np.ndarray] = {}
        chosen = set(later) & set(space)
        self._later = np.array([name in chosen for name in self._encoding.names])
        self._training, self._variants = training, variants if training is not None and chosen else 0
        self._key = key or (lambda params: tuple(self._encoding.settled(self._encoding.rows([params]))[0]))
        self._canonical = canonical or (lambda params: params)
        self._known = {self._key(self._canonical(start)) for start in self._starts}
        self._size = Sizes(self._encoding, overrun or (lambda params: 0.0), seed, _always=overrun is None)
        self._candidates = Candidates(self._encoding, self._size)

    # ------------------------------------------------------------------ Optuna's interface

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, whatever was tried so far."""
        return dict(self._space)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Params:
        """All parameters at once."""
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        found = self.propose(others, trial.number, sign).params
        if found is None:
            row = self._encoding.draw(1, np.random.default_rng([self._seed, 2, trial.number]))[0]
            found = self._encoding.params(row)
        return {name: value for name, value in found.items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A parameter outside the space, drawn uniformly."""
        digits = [ord(c) for c in param_name]
        encoding = Encoding({param_name: param_distribution})
        row = encoding.draw(1, np.random.default_rng([self._seed, 3, trial.number, *digits]))[0]
        return encoding.params(row)[param_name]

    # ------------------------------------------------------------------ proposing

    def propose(self, trials: Sequence[FrozenTrial], number: int, sign: float = 1.0) -> Proposed:
        """Propose parameters for trial ``number``, given the others (finished, running, failed).

        Args:
            trials: of the same space.
            number: seeds the draw, together with the sampler's own seed.
            sign: -1 to maximise.
        """
        # The matrices are small: more threads would only keep cores busy that a training could use.
        with _libraries().limit(limits=1, user_api="blas"):
            return self._proposed(trials, number, sign)

    def _proposed(self, trials: Sequence[FrozenTrial], number: int, sign: float) -> Proposed:
        rng = np.random.default_rng([self._seed, 1, number])
        entered = [t for t in trials if t.params]
        taken = {self._told(t).key for t in entered}
        walk = Walk(self._key, self._chance, taken, self._refused)
        for start in self._starts:
            if walk.weigh(self._canonical(start), 1.0, least=LIKELY):
                return walk.result("start")
        told, values = scored(trials)
        known = self._rows(entered)
        self._size.know(known[-LATELY:], [self._overrun(t) for t in entered[-LATELY:]])
        trained, twins = self._twins(trials, told, sign * values, rng)
        full = self._full(trials, len(trained))
        if (len(trained) or sum(t.state == TrialState.COMPLETE for t in told)) < self._design:
            rankings = {
                "variant": self._different(known, self._size.fitting(twins)[0]),
                "design": self._different(known, self._candidates.fitting(rng)),
            }
        else:
            pending = self._rows([t for t in entered if t.state == TrialState.RUNNING])
            rankings = self._promising(told, sign * values, pending, twins, rng)

        def sources() -> Iterator[tuple[str, Ranked]]:
            yield from rankings.items()
            yield "around", alike(self._candidates.around(known, rng))

        for source, (rows, promises) in sources():
            walk.checks, walk.ceiling = 0, np.inf
            for row, promise, size in zip(rows, promises, self._size.predicted(rows), strict=True):
                if walk.decided(promise) or walk.checks >= CHECKS:
                    break
                if size >= walk.ceiling:
                    continue
                params = self._canonical(self._encoding.params(row))
                if source == "variant" and self._training_of(params) not in trained:
                    continue
                if not full or self._training_of(params) not in full:
                    walk.weigh(params, promise, size if np.isfinite(size) else None)  # of no known size: no ceiling
            if walk.found is not None:
                return walk.result(source)
        return self._anything(walk, rng)

    def _twins(
        self, trials: Sequence[FrozenTrial], told: list[FrozenTrial], values: np.ndarray, rng: np.random.Generator
    ) -> tuple[set[Hashable], np.ndarray]:
        """Keys of the finished trainings, and rows that would reuse the best of them; no rows while none is due."""
        none = np.zeros((0, self._encoding.columns))
        if not self._variants:
            return set(), none
        order = [told[i] for i in np.argsort(values, kind="stable") if told[i].state == TrialState.COMPLETE]
        best = {self._told(t).training: self._told(t).row for t in reversed(order)}  # the best one of each training
        if self._full(trials, len(best)):
            return set(best), none
        trunks = [self._told(t) for t in order if self._told(t).row is best[self._told(t).training]][:TRUNKS]
        chosen = [trunks[i % len(trunks)] for i in range(2 * POOL if trunks else 0)]
        if not chosen:
            return set(best), none
        rows, free = np.stack([t.row for t in chosen]), np.stack([self._free_columns(t) for t in chosen])
        # Some differ in one parameter or two, others in half of what acts after training.
        often = rng.choice([1.5 / self._later.sum(), 0.5], size=len(rows))
        redrawn = (rng.random(rows.shape) < often[:, None]) & free
        return set(best), self._encoding.settled(np.where(redrawn, self._encoding.draw(len(rows), rng), rows))

    def _full(self, trials: Sequence[FrozenTrial], finished: int) -> set[Hashable]:
        """Trainings that no further trial may reuse: all of them once there are as many variants as were asked for."""
        started = [self._told(t).training for t in trials if t.params] if self._variants else []
        return set(started) if len(started) - len(set(started)) >= self._variants * finished else set()

    def _free_columns(self, trunk: _Told) -> np.ndarray:
        """(columns,) which parameters can change without another training; one that is read while training cannot."""
        if trunk.training not in self._free:
            free = self._later.copy()
            for j in map(int, np.flatnonzero(free)):
                other = trunk.row.copy()
                far = np.array([0.9 if trunk.row[j] < 0.5 else 0.1])
                other[j] = self._encoding.on_grid(j, far)[0] if self._encoding.ordinal[j] else not trunk.row[j]
                params = self._canonical(self._encoding.params(self._encoding.settled(other[None])[0]))
                free[j] = self._training_of(params) == trunk.training
            self._free[trunk.training] = free
        return self._free[trunk.training]

    def _training_of(self, params: Params) -> Hashable:
        return self._training(params) if self._training is not None else None

    def _rows(self, trials: Sequence[FrozenTrial]) -> np.ndarray:
        """(n, columns), from memory where they were encoded before."""
        rows = [self._told(t).row for t in trials]
        return np.stack(rows) if rows else np.zeros((0, self._encoding.columns))

    def _told(self, trial: FrozenTrial) -> _Told:
        """A trial's row and its keys: parameters never change once they are set, so they are remembered."""
        known = self._memory.get(trial.number)
        if known is None or known.params != trial.params:
            params = trial.params
            training = self._training_of(params) if self._variants else None
            known = _Told(params, self._encoding.rows([params])[0], self._key(params), training)
            self._memory[trial.number] = known
        return known

    def _overrun(self, trial: FrozenTrial) -> float:
        told = self._told(trial)
        if told.overrun is None:
            told.overrun = self._size.overrun(told.params)
        return told.overrun

    def _anything(self, walk: Walk, rng: np.random.Generator) -> Proposed:
        """Nothing promising fits: take the first random combination that does, in a bounded number of draws."""
        rows, walk.checks = self._encoding.draw(1024, rng), 0
        for row in [*self._size.fitting(rows)[0], *rows[:CHECKS]]:
            if walk.decided(1.0) or walk.checks >= 4 * CHECKS:
                break
            walk.weigh(self._canonical(self._encoding.params(row)), 1.0)
        return walk.result("none" if walk.found is None else "random")

    def _different(self, known: np.ndarray, pool: np.ndarray) -> Ranked:
        """Rows of a pool, first the one the least is known about: the greedy D-optimal choice for a linear model."""
        if not len(known) or not len(pool):
            return alike(pool)
        x, z = self._encoding.features(pool), self._encoding.features(known)
        gram = z.T @ z + 0.5 * np.eye(z.shape[1])
        return ranked(pool, np.einsum("ij,ij->i", x, np.linalg.solve(gram, x.T).T))

    def _promising(
        self, told: list[FrozenTrial], values: np.ndarray, pending: np.ndarray, twins: np.ndarray, rng: np.random.Generator
    ) -> dict[str, Ranked]:
        """Rows by source, the most promising first, by the model whose turn it is; it believes its means of pending trials.

        What a row promises is its expected improvement over the best trial: by the drawn function and the model's error in
        trials it was not shown, or by the ratio of densities.
        """
        rows = self._rows(told)
        model = self._model(rows, values, rng)
        good, _ = split(values)
        dense = Parzen(self._encoding, rows[good]).draw(POOL, rng)
        complete = np.array([t.state == TrialState.COMPLETE for t in told])  # what was stopped may not even fit
        top = rows[np.argsort(np.where(complete, values, np.inf), kind="stable")]
        near: Near | None = None
        # Many workers that all stay near one trial would crowd there.
        if self._known and rng.random() < self._staying(told, rows, values) * len(rows) / (len(rows) + 2 * len(pending)):
            near = top[0], int(np.exp(rng.uniform(0.0, np.log(max(2.0, self._encoding.columns / 4)))))
            pool = self._candidates.mutants(*near, top[: max(2, len(top) // 2)], rng)
        else:
            pool = np.concatenate([dense, self._candidates.fitting(rng), top[:16]])
        pool, features = self._size.fitting(pool)
        # The linear model is doubted as much as it fails to predict trials it was not shown.
        skill = model.skill()
        if near is None and len(pool) and rng.random() < 0.5 * (1.0 - max(0.0, skill)) ** 2:
            return {"density": ranked(pool, expected_improvement(self._encoding, rows, values, pool, pending))}
        function = model.believing(self._size.features(pending)).draw(rng, min(1.0, BOLDNESS + BOLDER * len(rows)))
        best = function(self._size.features(rows)).min()
        error = model.spread * np.sqrt(max(1e-12, 1.0 - skill))
        twins, theirs = self._size.fitting(twins)
        better = best - function(theirs) if len(twins) else np.zeros(0)
        pool, found = self._candidates.climb(function, pool, features, rng, near)
        return {
            "variant": ranked(twins[better > 0], better[better > 0], error),
            "posterior": ranked(pool, best - found, error),
        }

    def _staying(self, told: list[FrozenTrial], rows: np.ndarray, values: np.ndarray) -> float:
        """The share of proposals to stay near the best trial: of the trials far from it, those worse than the best start.

        Where what is far comes up to the starts, they are nothing special; where it never does, somebody tuned them.
        """
        started = np.array([self._told(t).key in self._known for t in told])
        if not started.any():
            return 0.0
        far = self._encoding.distance(rows, rows[np.argmin(values)]) > self._encoding.columns / 4
        lately = np.flatnonzero(far & ~started)[-LATELY:]
        return float((values[lately] > values[started].min()).sum() + 0.5) / (len(lately) + 1)

    def _model(self, rows: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> Surrogate:
        """A surrogate of the trials: of all, or of the best and a sample of the others where there are many."""
        rows, values = _thinned(rows, np.minimum(values, fence(values)), MOST_TRIALS, rng)
        features = self._size.features(rows)
        scaled = Surrogate.fit(*_thinned(features, values, MOST_FOR_SCALES, rng))
        if len(values) <= MOST_FOR_SCALES:
            return scaled
        return Surrogate.given(features, values, scaled.log_scales, scaled.relevance)


@functools.cache
def _libraries() -> ThreadpoolController:
    """Those with threads of their own; they are all loaded by now, and looking for them takes a moment."""
    return ThreadpoolController()


def _thinned(rows: np.ndarray, values: np.ndarray, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """All rows, or the best half of ``most`` and a random half of the others."""
    if len(values) <= most:
        return rows, values
    order = np.argsort(values, kind="stable")
    rest = rng.choice(order[most // 2 :], size=most - most // 2, replace=False)
    kept = np.concatenate([order[: most // 2], rest])
    return rows[kept], values[kept]
