"""FittingSampler: an Optuna sampler that proposes combinations that fit a size limit. It can be used on its own::

    problem = Problem(space, overrun=lambda params: size(params) / limit)
    study = optuna.create_study(sampler=FittingSampler(problem, seed=0))

Two models rank the candidates. The first is a Bayesian linear model with pairwise terms and a smooth remainder: one function is
drawn from its posterior and searched locally (Thompson sampling). The second is a multivariate TPE. Candidates that cannot fit
are refused before the best one is taken, so that no training is wasted on them. The promise of a candidate that may fit is
multiplied by its chance to fit. A proposal depends only on the seed, the trial's number and the finished trials: after a resume
the sampler makes the same proposals.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from golflab.search.sampler.candidates import POOL, Candidates, Near
from golflab.search.sampler.encoding import Encoding, Params
from golflab.search.sampler.memory import Memory, fence, scored
from golflab.search.sampler.prior import Expected, Informed, Prior
from golflab.search.sampler.problem import Problem
from golflab.search.sampler.selection import LIKELY, Proposed, Ranked, Selection, alike, ranked
from golflab.search.sampler.sizes import Sizes
from golflab.search.sampler.surrogate import Surrogate
from golflab.search.sampler.tpe import Parzen, expected_improvement, split
from golflab.search.sampler.variants import Variants

MOST_TRIALS = 160  # trials a model is built on: the best half, and a random half of the rest
MOST_FOR_SCALES = 96  # trials its variances are chosen on
BOLDNESS = 0.3  # scale of the posterior's deviations in Thompson sampling. It is small at first, when every trial teaches much,
BOLDER = 0.01  # and grows by this with every finished trial, so that the search does not settle
FEWEST = 4  # complete trials before anything is modelled
CHECKS = 64  # forecasts per proposal, at most
LATELY = 64  # latest trials, which decide whether to stay near the best one, and which the model of sizes is corrected by


class FittingSampler(BaseSampler):
    """Proposes the candidate with the largest expected improvement among those that fit.

    Args:
        problem: what is searched.
        prior: effects that are expected before any trial. They are the mean of the model, and make the first proposals.
        design: complete trials (trainings, where trials can share one) before anything is modelled. Until then each proposal
            is as different from the earlier ones as possible, so that effects can be told apart. None: 4; with a prior, these
            proposals are the best by effects that are drawn from it.
        variants: trials that reuse a finished training, at most this many per training. During the design they are chosen to
            tell parameters apart; afterwards a variant is proposed only if it promises more than every trial so far.
        seed: of all random draws.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        prior: Sequence[Expected] = (),
        design: int | None = None,
        variants: int = 0,
        seed: int = 0,
    ) -> None:
        self.problem, self._encoding = problem, problem.encoding
        self._seed, self._design = seed, FEWEST if design is None else design
        self._prior = Prior(self._encoding, prior) if prior else None
        self._leading = self._prior if design is None else None
        self._refused: set[Hashable] = set()
        variants = variants if Variants.possible(problem) else 0
        self._memory = Memory(problem, trainings=variants > 0)
        self._variants = Variants(problem, self._memory, variants)
        self._known = {problem.key_of(problem.canonical_of(start)) for start in problem.starts}
        self._size = Sizes(self._encoding, problem.overrun, seed)
        self._candidates = Candidates(self._encoding, self._size)

    # ------------------------------------------------------------------ Optuna's interface

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, whatever the trials so far were."""
        return dict(self.problem.space)

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
            number: of the trial; it seeds the draw together with the sampler's own seed.
            sign: -1 to maximise.
        """
        # The matrices are small: more threads would only take cores away from trainings.
        with _libraries().limit(limits=1, user_api="blas"):
            return self._proposed(trials, number, sign)

    def _proposed(self, trials: Sequence[FrozenTrial], number: int, sign: float) -> Proposed:
        rng = np.random.default_rng([self._seed, 1, number])
        entered = [t for t in trials if t.params]
        taken = {self._memory.of(t).key for t in entered}
        selection = Selection(self.problem, taken, self._refused)
        for start in self.problem.starts:
            if selection.consider(self.problem.canonical_of(start), 1.0, least=LIKELY):
                return selection.result("start")
        finished, values = scored(trials)
        known = self._memory.rows(entered)
        self._size.know(known[-LATELY:], [self._memory.overrun(t) for t in entered[-LATELY:]])
        trained, variants = self._variants.candidates(trials, finished, sign * values, rng)
        full = self._variants.full(trials, len(trained))
        if (len(trained) or sum(t.state == TrialState.COMPLETE for t in finished)) < self._design:
            rankings = {
                "variant": self._different(known, self._size.fitting(variants)[0]),
                **({"prior": self._expected(self._leading, rng)} if self._leading is not None else {}),
                "design": self._different(known, self._candidates.fitting(rng)),
            }
        else:
            pending = self._memory.rows([t for t in entered if t.state == TrialState.RUNNING])
            rankings = self._promising(finished, sign * values, pending, variants, rng)

        def sources() -> Iterator[tuple[str, Ranked]]:
            yield from rankings.items()
            yield "around", alike(self._candidates.around(known, rng))

        for source, (rows, promises) in sources():
            selection.checks, selection.ceiling = 0, np.inf
            for row, promise, size in zip(rows, promises, self._size.predicted(rows), strict=True):
                if selection.decided(promise) or selection.checks >= CHECKS:
                    break
                if size >= selection.ceiling:
                    continue
                params = self.problem.canonical_of(self._encoding.params(row))
                if source == "variant" and self.problem.training_of(params) not in trained:
                    continue
                if not full or self.problem.training_of(params) not in full:
                    selection.consider(params, promise, size if np.isfinite(size) else None)  # no size is known: no ceiling
            if selection.found is not None:
                return selection.result(source)
        return self._anything(selection, rng)

    def _anything(self, selection: Selection, rng: np.random.Generator) -> Proposed:
        """No promising candidate fits: take the first random combination that does, out of a limited number."""
        rows, selection.checks = self._encoding.draw(1024, rng), 0
        for row in [*self._size.fitting(rows)[0], *rows[:CHECKS]]:
            if selection.decided(1.0) or selection.checks >= 4 * CHECKS:
                break
            selection.consider(self.problem.canonical_of(self._encoding.params(row)), 1.0)
        return selection.result("none" if selection.found is None else "random")

    def _different(self, known: np.ndarray, pool: np.ndarray) -> Ranked:
        """Rows of a pool, the one that adds most information first: the greedy D-optimal choice for a linear model."""
        if not len(known) or not len(pool):
            return alike(pool)
        x, z = self._encoding.features(pool), self._encoding.features(known)
        gram = z.T @ z + 0.5 * np.eye(z.shape[1])
        return ranked(pool, np.einsum("ij,ij->i", x, np.linalg.solve(gram, x.T).T))

    def _expected(self, prior: Prior, rng: np.random.Generator) -> Ranked:
        """The best candidates by effects drawn from the prior: the starts, improved, or random ones where none fits."""
        starts, _ = self._size.fitting(self._encoding.rows(self.problem.starts))
        pool, features = self._size.fitting(starts if len(starts) else self._candidates.fitting(rng))
        pool, values = self._candidates.climb(prior.draw(rng), pool, features, rng)
        return ranked(pool, values.max(initial=-np.inf) - values)

    def _promising(
        self,
        finished: list[FrozenTrial],
        values: np.ndarray,
        pending: np.ndarray,
        variants: np.ndarray,
        rng: np.random.Generator,
    ) -> dict[str, Ranked]:
        """Candidates by source, the most promising first. One of the two models is chosen at random.

        A candidate's promise is its expected improvement over the best trial. For the linear model it is computed from the
        drawn function and the model's leave-one-out error; for TPE it is the ratio of densities. Trials that are still running
        are assumed to reach the mean that the model predicts.
        """
        rows = self._memory.rows(finished)
        model = self._model(rows, values, rng)
        good, _ = split(values)
        dense = Parzen(self._encoding, rows[good]).draw(POOL, rng)
        complete = np.array([t.state == TrialState.COMPLETE for t in finished])  # a stopped trial may not even fit
        top = rows[np.argsort(np.where(complete, values, np.inf), kind="stable")]
        near: Near | None = None
        # With many workers, proposals near the best trial are rarer: they would all be alike.
        if self._known and rng.random() < self._staying(finished, rows, values) * len(rows) / (len(rows) + 2 * len(pending)):
            near = top[0], int(np.exp(rng.uniform(0.0, np.log(max(2.0, self._encoding.columns / 4)))))
            pool = self._candidates.mutants(*near, top[: max(2, len(top) // 2)], rng)
        else:
            pool = np.concatenate([dense, self._candidates.fitting(rng), top[:16]])
        pool, features = self._size.fitting(pool)
        # The worse the linear model predicts left-out trials, the more often TPE is used instead.
        skill = model.skill()
        if near is None and len(pool) and rng.random() < 0.5 * (1.0 - max(0.0, skill)) ** 2:
            return {"density": ranked(pool, expected_improvement(self._encoding, rows, values, pool, pending))}
        function = model.believing(self._size.features(pending)).draw(rng, min(1.0, BOLDNESS + BOLDER * len(rows)))
        best = function(self._size.features(rows)).min()
        error = model.spread * np.sqrt(max(1e-12, 1.0 - skill))
        variants, theirs = self._size.fitting(variants)
        better = best - function(theirs) if len(variants) else np.zeros(0)
        pool, found = self._candidates.climb(function, pool, features, rng, near)
        return {
            "variant": ranked(variants[better > 0], better[better > 0], error),
            "posterior": ranked(pool, best - found, error),
        }

    def _staying(self, finished: list[FrozenTrial], rows: np.ndarray, values: np.ndarray) -> float:
        """Probability of a proposal near the best trial: the share of trials far from it that are worse than the best start.

        If trials far away are as good as the starts, the starts are nothing special. If they are all worse, the starts were
        tuned, and it pays to stay near them.
        """
        started = np.array([self._memory.of(t).key in self._known for t in finished])
        if not started.any():
            return 0.0
        far = self._encoding.distance(rows, rows[np.argmin(values)]) > self._encoding.columns / 4
        lately = np.flatnonzero(far & ~started)[-LATELY:]
        return float((values[lately] > values[started].min()).sum() + 0.5) / (len(lately) + 1)

    def _model(self, rows: np.ndarray, values: np.ndarray, rng: np.random.Generator) -> Surrogate | Informed:
        """A model fitted to all trials or, if there are many, to the best ones and a sample of the others."""
        rows, values = _thinned(rows, np.minimum(values, fence(values)), MOST_TRIALS, rng)
        features = self._size.features(rows)

        def fit(values: np.ndarray) -> Surrogate:
            scaled = Surrogate.fit(*_thinned(features, values, MOST_FOR_SCALES, rng))
            if len(values) <= MOST_FOR_SCALES:
                return scaled
            return Surrogate.given(features, values, scaled.log_scales, scaled.relevance)

        return fit(values) if self._prior is None else self._prior.fit(features, values, fit)


@functools.cache
def _libraries() -> ThreadpoolController:
    """Handles of the loaded BLAS libraries. Finding them takes a moment, so it is done once."""
    return ThreadpoolController()


def _thinned(rows: np.ndarray, values: np.ndarray, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """All rows, or the best half of ``most`` and a random half of the others."""
    if len(values) <= most:
        return rows, values
    order = np.argsort(values, kind="stable")
    rest = rng.choice(order[most // 2 :], size=most - most // 2, replace=False)
    kept = np.concatenate([order[: most // 2], rest])
    return rows[kept], values[kept]
