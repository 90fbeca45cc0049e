"""Recipes ranked and priced."""

import numpy as np
import pytest

from golflab.analysis.comparison.frontier import frontier, shadow_price
from golflab.analysis.comparison.ranking import ranking
from golflab.analysis.table import from_records
from tests.planted import Planted


def runs(count=60, seeds=1, seed=0):
    world = Planted.draw(seed, 8)
    flags = np.repeat((np.random.default_rng(seed).random((count, 8)) < 0.5).astype(float), seeds, axis=0)
    return world, from_records(world.records(flags, seeds=np.tile(np.arange(seeds), count), limit=395_000))


def test_efficient_is_not_dominated():
    _, table = runs()
    for seconds in (False, True):
        out = frontier(table, seconds=seconds)
        costs = out[["bytes", "bpb", *(["seconds"] if seconds else [])]].to_numpy()
        for k, row in enumerate(costs):
            beaten = ((costs <= row).all(axis=1) & (costs < row).any(axis=1)).any()
            assert out["efficient"].iloc[k] == (not beaten)


def test_the_best_must_fit():
    _, table = runs()
    ranked = ranking(table)
    fitting = table[table["bytes"] <= 395_000]
    assert ranked[ranked["fits"]].iloc[0]["bpb"] == pytest.approx(fitting["bpb"].min())
    assert not ranked["fits"].iloc[-1] or (table["bytes"] <= 395_000).all()


def test_seeds_of_one_recipe_are_one_row():
    _, table = runs(20, seeds=3)
    out = ranking(table)
    assert out["runs"].sum() == 60
    assert out["runs"].max() >= 3
    one = table[table["bpb"].notna()].groupby([f"technique_{c}" for c in "abcdefgh"])["bpb"].mean()
    assert np.allclose(sorted(out["bpb"]), sorted(one))
    assert out["p_best"].sum() == pytest.approx(1.0)
    assert out.attrs["sigma"] == pytest.approx(0.0007, rel=0.4)


def test_luck_is_taken_out_of_the_best():
    gaps = []
    for seed in range(12):
        world, table = runs(60, seed=seed)
        top = ranking(table)
        top = top[top["fits"]].iloc[0]
        on = np.array([[float(n in top["techniques"].split(", ")) for n in world.names]])
        gaps.append((top["bpb"] - world.true(on)[0], top["expected"] - world.true(on)[0]))
    raw, shrunk = np.mean(gaps, axis=0)
    assert raw < 0  # the winner's score flatters
    assert abs(shrunk) < abs(raw)


def test_price_of_a_kilobyte_on_a_known_line():
    _, table = runs(80)
    generator = np.random.default_rng(0)
    table["bytes"] = generator.uniform(300_000, 500_000, len(table))
    table["bpb"] = 2 - 1e-6 * (table["bytes"] - 300_000) + generator.exponential(0.01, len(table))
    price = shadow_price(table, limit=400_000).iloc[0]
    assert price["bpb_per_kb"] == pytest.approx(-0.001, rel=0.6)
    assert price["low"] < price["bpb_per_kb"] <= price["high"]
    assert "too few" in shadow_price(table.head(2), limit=400_000).iloc[0]["doubt"]
