"""The distributions from which a search draws the values of knobs."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from golflab.model.technique import Knob


def distribution(rule: Knob, default: Any) -> BaseDistribution:
    if rule.choices:
        return CategoricalDistribution(drawn(rule, default))
    low, high = rule.low or 0.0, rule.high or 0.0  # a rule without choices has both
    if isinstance(default, int):
        return IntDistribution(int(low), int(high), log=rule.log, step=rule.step or 1)
    return FloatDistribution(low, high, log=rule.log)


def around(rule: Knob, default: Any) -> Knob:
    """The range, widened to include the preset's own value."""
    if rule.choices or rule.low is None or rule.high is None or rule.low <= default <= rule.high:
        return rule
    return dataclasses.replace(rule, low=min(rule.low, default), high=max(rule.high, default))


def drawn(rule: Knob, default: Any) -> tuple[Any, ...]:
    """The choices of a knob that a space draws: no faults of published entries, unless the preset has them."""
    return tuple(value for value in rule.choices if value not in rule.faults or value == default)


def draw(rule: BaseDistribution, rng: random.Random) -> Any:
    if isinstance(rule, CategoricalDistribution):
        return rng.choice(rule.choices)
    assert isinstance(rule, FloatDistribution | IntDistribution)
    low, high = float(rule.low), float(rule.high)
    value = low * (high / low) ** rng.random() if rule.log else low + (high - low) * rng.random()
    if not isinstance(rule, IntDistribution):
        return min(max(value, low), high)
    return min(max(rule.low + round((value - rule.low) / rule.step) * rule.step, rule.low), rule.high)
