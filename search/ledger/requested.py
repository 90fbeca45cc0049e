"""What is run because a user asked for it: the recipes of a plan, and combinations enqueued with Optuna or its dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from golflab.model.recipe import Recipe


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
