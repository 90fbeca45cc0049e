"""Experimental designs over techniques that are on or off: which combinations to run so that the effects can be told apart.

Pure functions of technique names. A combination is the frozenset of the names switched on; a design is a list of them.
Whether a combination is possible at all (fits the byte limit, no clash, every need met) is a predicate the caller gives.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy import linalg

Combination = frozenset[str]
Allowed = Callable[[Combination], bool]


def leave_one_out(names: Sequence[str]) -> list[Combination]:
    """Everything on, then everything but one: each effect together with all others. ``n + 1`` runs."""
    full = frozenset(names)
    return [full, *(full - {name} for name in names)]


def add_one_in(names: Sequence[str]) -> list[Combination]:
    """Nothing on, then one alone: each effect without any other. ``n + 1`` runs."""
    return [frozenset(), *(frozenset({name}) for name in names)]


def all_pairs(names: Sequence[str]) -> list[Combination]:
    """Everything on, everything but one, everything but two: effects and pairs near the full set. ``1 + n + n(n−1)/2`` runs."""
    full = frozenset(names)
    return [*leave_one_out(names), *(full - {a, b} for a, b in itertools.combinations(names, 2))]


def full_factorial(names: Sequence[str]) -> list[Combination]:
    """Every combination, ``2ⁿ`` runs.

    Raises:
        ValueError: more than 12 techniques.
    """
    if len(names) > 12:
        raise ValueError(
            f"full factorial: {len(names)} techniques would take {2 ** len(names):,} runs. Name 12 at most, or use a screen."
        )
    return [
        frozenset(n for n, on in zip(names, row, strict=True) if on)
        for row in itertools.product((False, True), repeat=len(names))
    ]


def plackett_burman(names: Sequence[str]) -> list[Combination]:
    """Main effects from the fewest orthogonal runs, the next Hadamard order above ``n`` (Plackett and Burman, 1946)."""
    square = hadamard(len(names) + 1)
    return _rows(square[:, 1 : len(names) + 1] > 0, names)


def folded_plackett_burman(names: Sequence[str]) -> list[Combination]:
    """`plackett_burman` and its mirror image: main effects orthogonal and free of every two-technique interaction.

    88 runs for 40 techniques. A run and its mirror image come one after the other, so that stopping early loses least.
    """
    first = plackett_burman(names)
    full = frozenset(names)
    return [run for row in first for run in (row, full - row)]


def d_optimal(
    names: Sequence[str],
    runs: int,
    allowed: Allowed = lambda _: True,
    existing: Iterable[Combination] = (),
    seed: int = 0,
    starts: int = 3,
    interactions: float = 0.003,
) -> list[Combination]:
    """The ``runs`` allowed combinations that tell the effects apart best, by coordinate exchange (Meyer and Nachtsheim, 1995).

    A row changes in one technique, or in two (one in, one out) if the byte limit leaves no room, as long as this increases the
    determinant of the information matrix and the row stays allowed. Of several starts the design with the smallest
    `main_effect_loss` is kept, which also counts the aliasing of main effects by pairs.

    Args:
        names: techniques that vary.
        runs: new combinations to choose (existing ones not counted); ``len(names) + 2`` at least when nothing exists.
        allowed: whether a combination is possible.
        existing: combinations already run; the new ones complement them.
        seed: of the starts.
        starts: independent attempts.
        interactions: assumed variance of a pair's coefficient, relative to a run's variance.

    Returns:
        the new combinations.

    Raises:
        ValueError: too few runs, or no allowed combination can be found.
    """
    done = np.array([[1.0, *(1.0 if n in run else -1.0 for n in names)] for run in existing]).reshape(-1, len(names) + 1)
    if runs < 1 or runs + len(done) < len(names) + 2:
        raise ValueError(
            f"D-optimal: {runs} new runs and {len(done)} old ones cannot identify {len(names)} effects; "
            f"{len(names) + 2 - len(done)} new ones are needed."
        )
    generator = np.random.default_rng(seed)
    cache: dict[bytes, bool] = {}

    def fits(row: np.ndarray) -> bool:
        key = (row > 0).tobytes()
        if key not in cache:
            cache[key] = allowed(frozenset(n for n, x in zip(names, row[1:], strict=True) if x > 0))
        return cache[key]

    best, score = np.zeros((0, len(names) + 1)), np.inf
    for _ in range(starts):
        rows = _exchange(_feasible_rows(len(names), runs, fits, generator), done, fits, generator)
        loss = main_effect_loss(np.vstack([rows, done]), interactions)
        if loss < score:
            best, score = rows, loss
    return _rows(best[:, 1:] > 0, names)


def main_effect_loss(rows: np.ndarray, interactions: float) -> float:
    """Mean squared error of the main effects, in units of a run's variance: noise plus bias by pairs.

    Args:
        rows: (runs, 1 + n) of ±1, the first column the mean.
        interactions: variance of a pair's coefficient (±1 coding) relative to a run's.
    """
    inverse = np.linalg.pinv(rows.T @ rows, hermitian=True)
    solve = (inverse @ rows.T)[1:]
    gram = rows[:, 1:] @ rows[:, 1:].T
    pair_gram = (gram**2 - (rows.shape[1] - 1)) / 2  # Σ over pairs of z zᵀ, without building the pairs
    return float(np.trace(inverse[1:, 1:]) + interactions * np.einsum("ij,jk,ik->", solve, pair_gram, solve, optimize=True))


def hadamard(least: int) -> np.ndarray:
    """The smallest Hadamard matrix of order ``least`` or more that Paley and Sylvester give; its first column is +1."""
    order = max(4, -(-least // 4) * 4) if least > 2 else max(least, 1)
    while (found := _construct(order)) is None:
        order += 4
    return found * found[:, :1]


def _construct(order: int) -> np.ndarray | None:
    """A Hadamard matrix of this order: Paley I, Paley II, or twice a smaller one."""
    if order in (1, 2):
        return linalg.hadamard(order).astype(float)
    if _prime(order - 1) and (order - 1) % 4 == 3:
        return _paley(order - 1, skew=True) + np.eye(order)
    half = order // 2 - 1
    if order % 4 == 0 and _prime(half) and half % 4 == 1:
        core = _paley(half, skew=False)
        return np.kron(core, [[1, 1], [1, -1]]) + np.kron(np.eye(half + 1), [[1, -1], [-1, -1]])
    smaller = _construct(order // 2) if order % 2 == 0 else None
    return None if smaller is None else np.kron([[1, 1], [1, -1]], smaller)


def _paley(q: int, skew: bool) -> np.ndarray:
    """Bordered matrix of the quadratic residues modulo a prime ``q``, (q + 1, q + 1)."""
    squares = {k * k % q for k in range(1, q)}
    residue = np.array([0 if k == 0 else (1 if k in squares else -1) for k in range(q)], float)
    core = residue[(np.arange(q)[:, None] - np.arange(q)[None, :]) % q]
    border = np.zeros((q + 1, q + 1))
    border[0, 1:], border[1:, 0], border[1:, 1:] = 1, -1 if skew else 1, core
    return border


def _prime(n: int) -> bool:
    return n > 1 and all(n % k for k in range(2, int(n**0.5) + 1))


def _rows(on: np.ndarray, names: Sequence[str]) -> list[Combination]:
    return [frozenset(n for n, x in zip(names, row, strict=True) if x) for row in on]


def _feasible_rows(count: int, runs: int, fits: Callable[[np.ndarray], bool], generator: np.random.Generator) -> np.ndarray:
    """Random allowed rows, (runs, 1 + count): a random order of techniques is switched on one by one while that stays allowed.

    Half of the rows stop at a random size, so that both sparse and crowded combinations occur.
    """
    rows = []
    for _ in range(50 * runs):
        row = -np.ones(count + 1)
        row[0] = 1
        alive = fits(row)
        size = generator.integers(0, count + 1)
        for j in generator.permutation(count)[:size] + 1:
            row[j] = 1
            if fits(row):
                alive = True
            elif alive:  # a possible combination stays possible
                row[j] = -1
        if alive and fits(row):
            rows.append(row)
        if len(rows) == runs:
            return np.array(rows)
    raise ValueError("D-optimal: hardly any combination is possible. Raise the byte limit, or leave out techniques that clash.")


def _exchange(
    rows: np.ndarray, done: np.ndarray, fits: Callable[[np.ndarray], bool], generator: np.random.Generator, sweeps: int = 12
) -> np.ndarray:
    """Coordinate exchange: raise det(XᵀX) by changing one row at a time."""
    size = rows.shape[1]
    ridge = 1e-3 * np.eye(size)
    for _ in range(sweeps):
        inverse = np.linalg.inv(rows.T @ rows + done.T @ done + ridge)
        changed = False
        for k in generator.permutation(len(rows)):
            found = _better_row(rows[k], inverse, fits, generator)
            if found is not None:
                inverse = _replace(inverse, rows[k], found)
                rows[k], changed = found, True
        if not changed:
            break
    return rows


def _better_row(
    row: np.ndarray, inverse: np.ndarray, fits: Callable[[np.ndarray], bool], generator: np.random.Generator
) -> np.ndarray | None:
    """The neighbour of ``row`` that raises the determinant most and is allowed, or None."""
    size = len(row)
    flips = np.repeat(row[None], size - 1, axis=0)
    flips[np.arange(size - 1), np.arange(1, size)] *= -1
    on, off = np.flatnonzero(row[1:] > 0) + 1, np.flatnonzero(row[1:] < 0) + 1
    if len(on) and len(off):
        count = 2 * size
        swaps = np.repeat(row[None], count, axis=0)
        swaps[np.arange(count), generator.choice(on, count)] = -1
        swaps[np.arange(count), generator.choice(off, count)] = 1
        flips = np.vstack([flips, swaps])
    through = flips @ inverse
    own = row @ inverse @ row
    gain = (1 + np.einsum("ij,ij->i", through, flips)) * (1 - own) + (through @ row) ** 2
    for k in np.argsort(-gain):
        if gain[k] <= 1 + 1e-9:
            return None
        if fits(flips[k]):
            return flips[k]
    return None


def _replace(inverse: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Inverse information after a row is exchanged: add the new one, then take out the old one (Sherman and Morrison)."""
    step = inverse @ new
    inverse = inverse - np.outer(step, step) / (1 + new @ step)
    step = inverse @ old
    return inverse + np.outer(step, step) / (1 - old @ step)
