"""Pairs, Shapley values against brute force, and every order of removal against walking all of them."""

import itertools
import math

import numpy as np
import pytest

from golflab.analysis.effects.interaction import effect_weights, interaction, matrix, removal, shapley
from golflab.analysis.effects.model import fit_model, second_order
from golflab.analysis.table import from_records
from golflab.search.design.matrices import leave_one_out
from tests.planted import Planted


@pytest.fixture(scope="module")
def model():
    world = Planted.draw(1, 8)
    flags = np.array(list(itertools.product((0.0, 1.0), repeat=8)))
    return second_order(fit_model(from_records(world.records(flags))))


def value(model, on):
    """Model prediction for a set of techniques, from its coefficients."""
    x = np.array([1.0, *(0.5 if n in on else -0.5 for n in model.names)])
    pairs = [x[a] * x[b] for a, b in model.fit.design.pairs]
    return float(model.fit.beta @ np.concatenate([x, pairs]))


def test_finds_the_planted_pairs(model):
    table = interaction(model)
    assert len(model.pairs) == 28  # 256 runs of 8 techniques: all pairs are estimated
    clear = table[table["p_holm"] <= 0.01]
    assert {(r.a, r.b) for r in clear.itertuples()} == {("technique_b", "technique_c"), ("technique_e", "technique_f")}
    assert clear.set_index("a").loc["technique_b", "delta_bpb"] == pytest.approx(0.002, abs=4e-4)
    square = matrix(table)
    assert np.allclose(square, square.T, equal_nan=True)


def test_shapley_agrees_with_brute_force(model):
    names = model.names
    table = shapley(model).set_index("technique")
    for name in names:
        others = [n for n in names if n != name]
        total = 0.0
        for size in range(len(others) + 1):
            weight = math.factorial(size) * math.factorial(len(others) - size) / math.factorial(len(names))
            for group in itertools.combinations(others, size):
                total += weight * (value(model, {*group, name}) - value(model, set(group)))
        assert table.loc[name, "shapley"] == pytest.approx(total, abs=1e-12)
    assert table["shapley"].sum() == pytest.approx(value(model, set(names)) - value(model, set()), abs=1e-12)


def test_shapley_of_a_preset_leaves_the_others_off(model):
    preset = ["technique_b", "technique_c", "technique_e"]
    table = shapley(model, preset).set_index("technique")
    assert table["shapley"].sum() == pytest.approx(value(model, set(preset)) - value(model, set()), abs=1e-12)
    with pytest.raises(ValueError, match="does not vary"):
        shapley(model, ["nonsense"])


def test_removal_in_every_order(model):
    preset = ["technique_b", "technique_c", "technique_e", "technique_f"]
    losses = {name: [] for name in preset}
    for order in itertools.permutations(preset):
        left = set(preset)
        for name in order:
            losses[name].append(value(model, left - {name}) - value(model, left))
            left.remove(name)
    table = removal(model, preset).set_index("technique")
    for name, seen in losses.items():
        row = table.loc[name]
        assert row["least"] == pytest.approx(min(seen), abs=1e-12)
        assert row["most"] == pytest.approx(max(seen), abs=1e-12)
        assert row["average"] == pytest.approx(np.mean(seen), abs=1e-12)
    assert table["path"].iloc[-1] == pytest.approx(value(model, set()) - value(model, set(preset)), abs=1e-12)
    assert (table["path_se"] > 0).all()


def test_errors_are_those_of_the_contrast(model):
    weights = effect_weights(model, "technique_b", dict.fromkeys(model.names, 0.5))
    at = model.columns["technique_b"]
    assert model.fit.contrast(weights) == pytest.approx((model.fit.beta[at], model.fit.se[at]))


def test_leave_one_out_shows_no_pair():
    world = Planted.draw(2, 6)
    flags = np.repeat([[n in run for n in world.names] for run in leave_one_out(world.names)], 3, axis=0).astype(float)
    table = interaction(from_records(world.records(flags)), heredity=False)
    assert table["delta_bpb"].isna().all()
    assert table["doubt"].str.startswith("not identifiable").all()
