"""What is run because a user asked for it: a plan's recipes, and combinations enqueued with Optuna or its dashboard.

`PlanClock` expects how long the rest of a plan takes. Its runs may differ in size: a ladder runs its short ones first.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.search.ledger.problem import training_key
from golflab.spaces.scales import parameters_of

GROWTH = 0.5  # seconds per token grow with about this power of the parameters, from `nano` to `proxy` on a CPU core


@dataclass(frozen=True)
class Plan:
    """Recipes that are run before anything is proposed.

    Attributes:
        recipes: in the order in which they are run; None: there is no plan.
        proposes: whether the sampler proposes more trials afterwards. In an ablation it does not.
        binding: whether the byte limit holds for the recipes of an ablation. It never holds for the design that a search
            begins with: with runs missing, that design could not tell its techniques apart.
    """

    recipes: Sequence[Recipe] | None = None
    proposes: bool = True
    binding: bool = True

    @property
    def bound(self) -> bool:
        """Whether the byte limit holds for the plan's recipes."""
        return self.binding and not self.proposes


@dataclass(frozen=True)
class _Lasted:
    """How long one run took.

    Attributes:
        parameters: of its model.
        tokens: of training; 0 if it shared the training of another run.
        training: seconds of that.
        rest: seconds of everything else.
    """

    parameters: int
    tokens: int
    training: float
    rest: float


class PlanClock:
    """Expects for every run of a plan that is still to come what finished runs of the size nearest to its own took.

    Args:
        plan: all its recipes.
    """

    def __init__(self, plan: Sequence[Recipe]) -> None:
        self._plan, self._lasted = plan, list[_Lasted]()

    @functools.cached_property
    def _facts(self) -> list[tuple[str, str, int, int]]:
        """Hash, key of the training, parameters and training tokens of every recipe."""
        return [(r.hash, training_key(r), parameters_of(r), r.schedule.tokens or 0) for r in self._plan]

    def lasted(self, record: Record, seconds: float) -> None:
        """Note that a run of this driver took so many seconds. One without a complete record teaches nothing."""
        if record.state == "complete" and record.parameters and record.tokens:
            training = min(seconds, record.stages.get("train", 0.0)) if record.trained else 0.0
            tokens = record.tokens if record.trained else 0
            self._lasted.append(_Lasted(record.parameters, tokens, training, seconds - training))

    def left(self, finished: Iterable[str], seconds: float) -> float | None:
        """Seconds until the plan has been run, with as many workers as so far; None before anything was trained.

        Args:
            finished: hashes of the recipes that have ended.
            seconds: wall time since this driver started its first run.
        """
        if not any(run.tokens for run in self._lasted) or seconds <= 0:
            return None
        done = set(finished)
        trained = {key for name, key, _, _ in self._facts if name in done}
        ahead = 0.0
        for name, key, size, tokens in self._facts:
            if name not in done:
                ahead += self._expected(size, 0 if key in trained else tokens)
                trained.add(key)
        return ahead * seconds / sum(run.training + run.rest for run in self._lasted)

    def _expected(self, size: int, tokens: int) -> float:
        """Seconds of one run of a model with so many parameters, if it had a worker for itself."""
        near = self._nearest([run for run in self._lasted if run.tokens], size)
        rate = sum(run.training for run in near) / sum(run.tokens * run.parameters**GROWTH for run in near)
        rest = [run.rest / run.parameters**GROWTH for run in self._nearest(self._lasted, size)]
        return (rate * tokens + sum(rest) / len(rest)) * size**GROWTH

    @staticmethod
    def _nearest(runs: Sequence[_Lasted], size: int) -> list[_Lasted]:
        """The runs whose models differ least from this size, within a fifth."""
        off = [abs(math.log(run.parameters / size)) for run in runs]
        return [run for run, distance in zip(runs, off, strict=True) if distance <= min(off) + math.log(1.2)]


def completed(trial: Trial, asked: Mapping[str, Any], rules: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """All parameters of a trial that a user enqueued.

    Args:
        trial: the enqueued trial.
        asked: parameters that the user chose; the sampler proposes the others.
        rules: distribution of each parameter of the space.

    Raises:
        ValueError: the space has no such parameter, or the parameter cannot have this value.
    """
    for name, value in asked.items():
        if name not in rules:
            raise ValueError(f"enqueued: the space has no parameter {name!r}; it has {', '.join(sorted(rules))}.")
        if not _can_be(value, rules[name]):
            raise ValueError(f"enqueued: {name}={value!r} must be {_allowed(rules[name])}.")
    for name, rule in rules.items():
        if isinstance(rule, CategoricalDistribution):
            trial.suggest_categorical(name, rule.choices)
        elif isinstance(rule, IntDistribution):
            trial.suggest_int(name, rule.low, rule.high, step=rule.step, log=rule.log)
        elif isinstance(rule, FloatDistribution):
            trial.suggest_float(name, rule.low, rule.high, step=rule.step, log=rule.log)
    return trial.params


def _can_be(value: Any, rule: BaseDistribution) -> bool:
    if isinstance(rule, CategoricalDistribution):
        return any(value == choice and type(value) is type(choice) for choice in rule.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    assert isinstance(rule, FloatDistribution | IntDistribution)
    if not rule.low <= value <= rule.high:
        return False
    if isinstance(rule, IntDistribution):
        return float(value).is_integer() and (int(value) - rule.low) % rule.step == 0
    return rule.step is None or abs((steps := (value - rule.low) / rule.step) - round(steps)) < 1e-8


def _allowed(rule: BaseDistribution) -> str:
    if isinstance(rule, CategoricalDistribution):
        return "one of " + ", ".join(repr(choice) for choice in rule.choices)
    assert isinstance(rule, FloatDistribution | IntDistribution)
    kind = "a whole number" if isinstance(rule, IntDistribution) else "a number"
    return f"{kind} from {rule.low:g} to {rule.high:g}" + (f" in steps of {rule.step:g}" if rule.step not in (None, 1) else "")
