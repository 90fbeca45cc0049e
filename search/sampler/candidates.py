"""Candidates: combinations that are shown to the models, among those that probably fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from golflab.search.sampler.encoding import Encoding
from golflab.search.sampler.sizes import Sizes

POOL = 128  # candidates from each source
CLIMBERS = 4  # rows that each round of the local search starts from
ROUNDS = 10  # of the local search

Near = tuple[np.ndarray, int]  # a row, and how many decisions rows may be away from it


@dataclass
class Candidates:
    """Draws, varies and improves rows of an encoding; only those that probably fit by ``sizes`` are kept."""

    encoding: Encoding
    sizes: Sizes

    def climb(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        pool: np.ndarray,
        features: np.ndarray,
        rng: np.random.Generator,
        near: Near | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Local search: rows that fit and have small values of ``function``, starting from ``pool``; and these values."""
        if not len(pool):
            return pool, np.zeros(0)
        values, met = function(features), {row.tobytes() for row in pool}
        for _ in range(ROUNDS):
            best = np.argsort(values, kind="stable")[:POOL]
            pool, values = pool[best], values[best]
            new = np.concatenate([self.neighbours(row, rng) for row in pool[:CLIMBERS]])
            if near is not None:
                new = new[self.encoding.distance(new, near[0]) <= near[1]]
            new, features = self.sizes.fitting(new[[row.tobytes() not in met for row in new]])
            if not len(new):
                break
            scores = function(features)
            better = scores < values[min(CLIMBERS, len(values)) - 1]
            if not better.any():
                break
            met |= {row.tobytes() for row in new}
            pool, values = np.concatenate([pool, new[better]]), np.concatenate([values, scores[better]])
        return pool, values

    def mutants(self, centre: np.ndarray, radius: int, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows within a radius of ``centre``: parameters copied from other rows or drawn again, numbers moved a little."""
        rows = np.repeat(centre[None], 2 * POOL, axis=0)
        theirs, fresh = others[rng.integers(len(others), size=len(rows))], self.encoding.draw(len(rows), rng)
        for j in map(int, np.flatnonzero(self.encoding.ordinal)):
            moved = np.clip(rows[:, j] + 0.2 * rng.standard_normal(len(rows)), 0, 1 - 1e-9)
            fresh[:, j] = self.encoding.on_grid(j, moved)
        new = np.where(rng.random(rows.shape) < 0.5, theirs, fresh)
        changes = rng.integers(1, radius + 1, size=len(rows))
        swapped = rng.random(rows.shape) < (changes / rows.shape[1])[:, None]
        rows = self.encoding.settled(np.where(swapped, new, rows))
        return rows[self.encoding.distance(rows, centre) <= radius]

    def neighbours(self, row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows that differ from ``row`` in one parameter, and some that swap two."""
        columns, values = self._moves(row, rng)
        singles = np.repeat(row[None], len(columns), axis=0)
        singles[np.arange(len(columns)), columns] = values
        if len(singles) < 2:
            return self.encoding.settled(singles)
        # Pairs of changes: one technique in and one out keeps the size.
        a, b = rng.integers(len(singles), size=(2, min(len(singles), POOL)))
        pairs = singles[b]
        pairs[np.arange(len(a)), columns[a]] = values[a]
        return self.encoding.settled(np.concatenate([singles, pairs]))

    def _moves(self, row: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(moves,) columns and new values: every other choice, and a step down and up for numbers that are in use."""
        encoding = self.encoding
        choices = [(j, value) for j in encoding.switches for value in range(encoding.sizes[j]) if value != row[j]]
        numbers = np.flatnonzero(encoding.ordinal & encoding.counts(row))
        steps = np.array([-1.0, 1.0]) * rng.choice([0.1, 0.3], size=(len(numbers), 1)) * rng.random((len(numbers), 1))
        moved = encoding.on_grid(numbers[:, None], np.clip(row[numbers, None] + steps, 0, 1 - 1e-9))
        columns = np.concatenate([np.array([j for j, _ in choices], dtype=int), np.repeat(numbers, 2)])
        values = np.concatenate([np.array([value for _, value in choices], dtype=float), moved.ravel()])
        other = values != row[columns]
        return columns[other], values[other]

    def fitting(self, rng: np.random.Generator) -> np.ndarray:
        """Random rows that probably fit."""
        return self.sizes.fitting(self.encoding.draw(4 * POOL, rng))[0][:POOL]

    def around(self, known: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Neighbours of trials, used if no other candidate fits."""
        if not len(known):
            return known.reshape(0, self.encoding.columns)
        rows = np.concatenate([self.neighbours(row, rng) for row in known[rng.integers(len(known), size=4)]])
        return self.sizes.fitting(rows)[0]
