"""Parameters as numbers: rows for distances and densities, features for the models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Params = dict[str, Any]
HATS = 7  # points of a number's range at which hat functions stand
PEAK = 2.0  # height of a hat function; the hats of one number then vary together about as much as a switch
_PLAIN, _SQUARE = -1, -2  # how a feature is made of its column, where it does not stand for one level of a choice


class Encoding:
    """Maps parameters to rows of numbers and back, for a fixed space of ``columns`` parameters.

    A switch or a choice is stored as the index of its value, a number as its position in its range, 0 to 1 (on the log
    scale where it has one). A knob whose technique is off is stored as its default, so that it makes no difference.

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
        # numbers on a grid are ordinal: their index gives a position in [0, 1]
        self.ordinal = np.array([v is None or _numeric(v) for v in self.values])
        self.sizes = np.array([0 if v is None else len(v) for v in self.values])
        at = {name: i for i, name in enumerate(self.names)}
        owned = [(at[name], at[owner], value) for name, (owner, value) in (owners or {}).items() if name in at and owner in at]
        self._knobs, self._owners = (np.array([entry[i] for entry in owned], dtype=int) for i in range(2))
        self._on = np.array(
            [self._number(owner, value) for _, owner, value in owned]
        )  # the owner's value when the knob is in use
        known = defaults or {}
        usual = [self._number(k, known[self.names[k]]) if self.names[k] in known else 0.5 for k, _, _ in owned]
        self._usual = np.array(usual)  # the knob's value otherwise
        self.switches = [i for i in range(len(self.names)) if not self.ordinal[i]]
        self.columns = len(self.names)
        self._from, self._level = self._expansion()
        self.fine = np.flatnonzero(self.ordinal & ((self.sizes == 0) | (self.sizes > HATS)))  # numbers with many values

    def rows(self, many: Sequence[Params]) -> np.ndarray:
        """(n, columns) float64 of unit values and indices; parameters that are missing get their middle."""
        table = np.empty((len(many), self.columns))
        for i, params in enumerate(many):
            for j, name in enumerate(self.names):
                table[i, j] = self._number(j, params[name]) if name in params else (0.5 if self.ordinal[j] else 0.0)
        return self.settled(table)

    def settled(self, rows: np.ndarray) -> np.ndarray:
        """``rows`` with the knobs of techniques that are off moved to their defaults; in place."""
        off = rows[:, self._owners] != self._on
        rows[:, self._knobs] = np.where(off, self._usual, rows[:, self._knobs])
        return rows

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """(..., columns) whether each parameter of rows (..., columns) is in use: a knob is while its technique is on."""
        found = np.ones(rows.shape, dtype=bool)
        found[..., self._knobs] = rows[..., self._owners] == self._on
        return found

    def distance(self, rows: np.ndarray, centre: np.ndarray) -> np.ndarray:
        """(n,) number of parameters that differ from ``centre``; a knob counts if its technique is the same in both."""
        apart = rows != centre
        apart[:, self._knobs] &= rows[:, self._owners] == centre[self._owners]
        return apart.sum(axis=1)

    def params(self, row: np.ndarray) -> Params:
        """The parameters a row stands for."""
        return {name: self._value(j, row[j]) for j, name in enumerate(self.names)}

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, columns) drawn uniformly, numbers on the grid their parameters have."""
        rows = rng.random((count, self.columns))
        return self.settled(self.on_grid(np.arange(self.columns), rows))

    def on_grid(self, columns: Any, unit: np.ndarray) -> np.ndarray:
        """Uniform numbers in [0, 1) as the values columns store: an index, or a position their parameter can take.

        Args:
            columns: one column, or an array of columns that broadcasts with ``unit``.
            unit: the numbers.
        """
        sizes = self.sizes[columns]
        index = np.minimum((unit * sizes).astype(int), sizes - 1)
        placed = np.where(self.ordinal[columns], index / np.maximum(1, sizes - 1), index)
        return np.where(sizes == 0, unit, placed)

    def features(self, rows: np.ndarray) -> np.ndarray:
        """(n, features) float32: ±1 per switch or level of a choice, numbers from -1 to 1 and their squares."""
        source = rows.astype(np.float32)[:, self._from]
        centred = 2 * source - 1
        chosen = np.where(source == self._level, np.float32(1), np.float32(-1))
        return np.where(self._level == _PLAIN, centred, np.where(self._level == _SQUARE, centred**2, chosen))

    def indicator(self, name: str, value: Any) -> np.ndarray:
        """(features,) weights of the features whose sum is 1 greater where a choice has this value than where it has another.

        Raises:
            ValueError: the space has no such choice, or it has no such value.
        """
        column = self.names.index(name) if name in self.names else -1
        levels = self.values[column] or ()
        if column not in self.switches or value not in levels:
            raise ValueError(f"{name}={value!r} is no value of a choice of this space.")
        mine, index = self._from == column, levels.index(value)
        return mine * (index - 0.5) if self.sizes[column] == 2 else 0.5 * (mine & (self._level == index))

    def hats(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(n, `HATS` per column) float32: where numbers lie in their ranges, by linear hat functions.

        Each is `PEAK` at its own point of the range and falls to 0 at the next points. With them a linear model can describe
        any function of one number that varies no faster than the points lie. The position and its square describe parabolas
        only, which miss a narrow best value. All of them are 0 while a knob is not in use.

        Args:
            rows: (n, columns of the encoding).
            columns: of numbers, such as `fine`.
        """
        apart = np.abs(rows[:, columns, None] - np.linspace(0.0, 1.0, HATS)) * (HATS - 1)
        heights = PEAK * np.maximum(0.0, 1.0 - apart) * self.counts(rows)[:, columns, None]
        return heights.reshape(len(rows), HATS * len(columns)).astype(np.float32)

    def _expansion(self) -> tuple[np.ndarray, np.ndarray]:
        """(features,) the column each feature is made of, and the level of a choice it stands for, or how it is made."""
        made: list[tuple[int, int]] = []
        for j in range(self.columns):
            if self.ordinal[j]:
                made += [(j, _PLAIN), (j, _SQUARE)] if self.values[j] is None or self.sizes[j] > 2 else [(j, _PLAIN)]
            else:
                made += [(j, _PLAIN)] if self.sizes[j] == 2 else [(j, level) for level in range(self.sizes[j])]
        columns, levels = np.array(made, dtype=int).reshape(-1, 2).T
        return columns, levels

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
        # Four digits, so that a preset's 0.05 comes back as 0.05 and no two combinations differ only by rounding.
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
