"""Designs: orthogonal where they promise it, possible where they must be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golflab.search.design.matrices import (
    add_one_in,
    all_pairs,
    d_optimal,
    folded_plackett_burman,
    full_factorial,
    hadamard,
    leave_one_out,
    main_effect_loss,
    plackett_burman,
)


def signs(design, names):
    return np.array([[1.0, *(1.0 if n in run else -1.0 for n in names)] for run in design])


@settings(max_examples=40, deadline=None)
@given(least=st.integers(1, 130))
def test_hadamard(least):
    square = hadamard(least)
    assert len(square) >= least
    assert np.array_equal(square.T @ square, len(square) * np.eye(len(square)))
    assert (square[:, 0] == 1).all()


@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 45))
def test_folded_is_orthogonal_and_free_of_pairs(count):
    names = [f"t{k}" for k in range(count)]
    rows = signs(folded_plackett_burman(names), names)
    assert np.array_equal(rows.T @ rows, len(rows) * np.eye(count + 1))
    i, j = np.triu_indices(count, 1)
    pairs = rows[:, 1 + i] * rows[:, 1 + j]
    assert not (rows[:, 1:].T @ pairs).any()


def test_forty_techniques_take_88_runs():
    names = [f"t{k}" for k in range(40)]
    assert len(folded_plackett_burman(names)) == 88
    assert len(plackett_burman(names)) == 44
    assert len(leave_one_out(names)) == len(add_one_in(names)) == 41
    assert len(all_pairs(names[:5])) == 16


def test_factorial_is_small():
    assert len(set(full_factorial("abc"))) == 8
    with pytest.raises(ValueError, match="12 at most"):
        full_factorial([f"t{k}" for k in range(13)])


def limited(names, share=0.3, seed=0):
    generator = np.random.default_rng(seed)
    cost = dict(zip(names, generator.gamma(1, 1, len(names)), strict=True))
    sizes = (generator.random((4000, len(names))) < 0.5) @ np.array(list(cost.values()))
    limit = np.quantile(sizes, share)
    return lambda run: sum(cost[n] for n in run) <= limit


def test_d_optimal_stays_inside_and_beats_chance():
    names = [f"t{k}" for k in range(20)]
    fits = limited(names)
    chosen = d_optimal(names, 44, fits)
    assert len(chosen) == 44
    assert all(map(fits, chosen))
    generator, by_chance = np.random.default_rng(1), []
    while len(by_chance) < 44:
        run = frozenset(n for n in names if generator.random() < 0.5)
        by_chance += [run] if fits(run) else []
    assert main_effect_loss(signs(chosen, names), 0) < main_effect_loss(signs(by_chance, names), 0)
    assert chosen == d_optimal(names, 44, fits)


def test_augmentation_mends_what_exists():
    names = [f"t{k}" for k in range(8)]
    done = leave_one_out(names)
    more = d_optimal(names, 12, existing=done)
    both, alone = signs([*done, *more], names), signs(done, names)
    assert main_effect_loss(both, 0) < main_effect_loss(alone, 0) / 3


def test_clashes_are_never_chosen():
    names = ["int5", "int6", "a", "b", "c"]
    chosen = d_optimal(names, 16, lambda run: not {"int5", "int6"} <= run and ("a" not in run or "b" in run))
    assert all(not {"int5", "int6"} <= run for run in chosen)
    assert all("b" in run for run in chosen if "a" in run)
    assert any("int5" in run for run in chosen)
    assert any("int6" in run for run in chosen)


def test_too_few_runs_and_nothing_possible():
    with pytest.raises(ValueError, match="cannot identify"):
        d_optimal(list("abcdef"), 4)
    with pytest.raises(ValueError, match="hardly any"):
        d_optimal(list("abc"), 8, lambda run: False)
