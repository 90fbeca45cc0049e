"""FittingSampler (first version: starts, then random combinations that fit)."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

Params = dict[str, Any]


class FittingSampler(BaseSampler):
    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        *,
        overrun: Callable[[Params], float] | None = None,
        key: Callable[[Params], Hashable] | None = None,
        owners: Mapping[str, tuple[str, Any]] | None = None,
        starts: Iterable[Params] = (),
        seed: int = 0,
    ) -> None:
        self._space, self._overrun, self._key = (
            dict(space),
            overrun or (lambda params: 0.0),
            key or (lambda params: tuple(sorted(params.items()))),
        )
        self._starts, self._seed = list(starts), seed

    def propose(self, trials: Sequence[FrozenTrial], number: int) -> tuple[Params | None, int, int]:
        rng = random.Random(f"{self._seed}/{number}")
        seen = {self._key(t.params) for t in trials if t.params}
        asked = dropped = 0
        for attempt in range(300):
            params = (
                self._starts[attempt]
                if attempt < len(self._starts)
                else {k: self._draw(d, rng) for k, d in self._space.items()}
            )
            if self._key(params) in seen:
                continue
            asked += 1
            if self._overrun(params) <= 1:
                return params, asked, dropped
            dropped += 1
        return None, asked, dropped

    def _draw(self, d, rng):
        if isinstance(d, CategoricalDistribution):
            return rng.choice(d.choices)
        if isinstance(d, IntDistribution):
            return rng.randint(d.low, d.high)
        return rng.uniform(d.low, d.high)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Params:
        return self.propose([t for t in study.get_trials(deepcopy=False) if t.number != trial.number], trial.number)[0] or {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._draw(param_distribution, random.Random(f"{self._seed}/{trial.number}/{param_name}"))
