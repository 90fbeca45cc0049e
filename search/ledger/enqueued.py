"""What somebody enqueued by hand, from the dashboard or with Optuna, checked before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


def completed(trial: Trial, asked: Mapping[str, Any], rules: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """All parameters of a trial that somebody enqueued.

    Args:
        trial: that was taken up.
        asked: the parameters that were chosen; those left out are proposed.
        rules: what each parameter of the space can be.

    Raises:
        ValueError: a name that the space does not have, or a value that its parameter cannot take.
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
