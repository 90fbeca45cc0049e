"""Parameters as numbers: unit values for distances and densities, features for the linear part of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Params = dict[str, Any]


class Encoding:
    """Maps parameters to rows of numbers and back, for a fixed space of ``columns`` parameters.

    A switch or a choice is stored as the index of its value, a number as its position in its range, 0 to 1 (on the log
    scale where it has one). A knob whose technique is off is stored as its default, so that it counts for nothing.

    Args:
        space: parameter name -> distribution.
        owners: parameter name -> (the choice it depends on, the value that switches it on).
        defaults: values of knobs; the middle of their range where they are missing.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        owners: Mapping[str, tuple[str, Any]] | None = None,
        defaults: Params | None = None,
    ) -> None:
        self.names = list(space)
        self.rules = list(space.values())
        self.values: list[tuple[Any, ...] | None] = [_levels(rule) for rule in self.rules]
        # numbers on a grid are ordinal: their index is a position
        self.ordinal = np.array([v is None or _numeric(v) for v in self.values])
        self.sizes = np.array([0 if v is None else len(v) for v in self.values])
        at = {name: i for i, name in enumerate(self.names)}
        self._owned: list[tuple[int, int, int, float]] = []  # knob, owner, the owner's value, what the knob is otherwise
        for name, (owner, value) in (owners or {}).items():
            if name in at and owner in at:
                levels = self.values[at[owner]]
                assert levels is not None
                usual = self._number(at[name], defaults[name]) if defaults and name in defaults else 0.5
                self._owned.append((at[name], at[owner], levels.index(value), usual))
        self.switches = [i for i in range(len(self.names)) if not self.ordinal[i]]
        self.columns = len(self.names)

    def rows(self, many: Sequence[Params]) -> np.ndarray:
        """(n, columns) float64 of unit values and indices; parameters that are missing get their middle."""
        table = np.empty((len(many), self.columns))
        for i, params in enumerate(many):
            for j, name in enumerate(self.names):
                table[i, j] = self._number(j, params[name]) if name in params else (0.5 if self.ordinal[j] else 0.0)
        return self.settled(table)

    def settled(self, rows: np.ndarray) -> np.ndarray:
        """``rows`` with the knobs of techniques that are off moved to their defaults; in place."""
        for column, owner, value, usual in self._owned:
            rows[rows[:, owner] != value, column] = usual
        return rows

    def distance(self, rows: np.ndarray, centre: np.ndarray) -> np.ndarray:
        """(n,) how many decisions separate rows from ``centre``; a knob counts where its technique is the same in both."""
        apart = rows != centre
        for column, owner, *_ in self._owned:
            apart[:, column] &= rows[:, owner] == centre[owner]
        return apart.sum(axis=1)

    def params(self, row: np.ndarray) -> Params:
        """The parameters a row stands for."""
        return {name: self._value(j, row[j]) for j, name in enumerate(self.names)}

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, columns) drawn uniformly, numbers on the grid their parameters have."""
        rows = rng.random((count, self.columns))
        for j in range(self.columns):
            rows[:, j] = self.on_grid(j, rows[:, j])
        return self.settled(rows)

    def on_grid(self, column: int, unit: np.ndarray) -> np.ndarray:
        """Uniform numbers in [0, 1) as the values a column stores: an index, or a position its parameter can take."""
        levels = self.values[column]
        if levels is None:
            return unit
        index = np.minimum((unit * len(levels)).astype(int), len(levels) - 1)
        return index / max(1, len(levels) - 1) if self.ordinal[column] else index.astype(float)

    def features(self, rows: np.ndarray) -> np.ndarray:
        """(n, features) for a linear model: ±1 per switch, one column per further choice, numbers from -1 to 1, squares."""
        parts: list[np.ndarray] = []
        for j in range(self.columns):
            column = rows[:, j]
            if self.ordinal[j]:
                centred = 2 * column - 1
                parts.append(centred)
                if self.values[j] is None or self.sizes[j] > 2:
                    parts.append(centred**2)
            elif self.sizes[j] == 2:
                parts.append(2 * column - 1)
            else:
                parts.extend(np.where(column == value, 1.0, -1.0) for value in range(self.sizes[j]))
        return np.stack(parts, axis=1) if parts else np.zeros((len(rows), 0))

    def _number(self, column: int, value: Any) -> float:
        levels = self.values[column]
        if levels is not None:
            index = levels.index(value) if value in levels else 0
            return index / max(1, len(levels) - 1) if self.ordinal[column] else float(index)
        rule = self.rules[column]
        assert isinstance(rule, FloatDistribution | IntDistribution)
        low, high, here = float(rule.low), float(rule.high), float(value)
        if rule.log:
            low, high, here = math.log(low), math.log(high), math.log(here)
        return 0.5 if high == low else min(1.0, max(0.0, (here - low) / (high - low)))

    def _value(self, column: int, number: float) -> Any:
        levels = self.values[column]
        if levels is not None:
            return levels[round(number * (len(levels) - 1)) if self.ordinal[column] else int(number)]
        rule = self.rules[column]
        assert isinstance(rule, FloatDistribution | IntDistribution)
        low, high = float(rule.low), float(rule.high)
        value = low * (high / low) ** number if rule.log else low + (high - low) * number
        if isinstance(rule, IntDistribution):
            return min(max(rule.low + round((value - rule.low) / rule.step) * rule.step, rule.low), rule.high)
        if rule.step is not None:
            value = low + round((value - low) / rule.step) * rule.step
        # Four digits: a preset's 0.05 comes back as 0.05, and no two combinations differ by rounding alone.
        return min(max(float(f"{value:.4g}"), low), high)


def _levels(rule: BaseDistribution) -> tuple[Any, ...] | None:
    """The values of a distribution that has few, or None."""
    if isinstance(rule, CategoricalDistribution):
        return rule.choices
    if isinstance(rule, IntDistribution) and not rule.log and (rule.high - rule.low) // rule.step < 32:
        return tuple(range(rule.low, rule.high + 1, rule.step))
    return None


def _numeric(values: tuple[Any, ...]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
