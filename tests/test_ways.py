"""One training finished in further ways: what is compared with what, on which text, and what the differences add up to."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from golflab.analysis.effects.finishings import finishings
from golflab.analysis.inference.intervals import half_width
from golflab.analysis.table import from_records
from golflab.model.job import finishing
from golflab.model.run import run
from golflab.model.submission.script import code_bytes
from golflab.model.ways import Way, compare
from tests.contract_helpers import BASE, BATCH, made_up_corpus

WAYS = ("int8_rows", "mse_clip@int8_rows", "ema", "sliding_window:stride=8", "zstd_codec", "int4_rows")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    corpus = made_up_corpus(tmp_path_factory.mktemp("corpus"))
    return BASE.with_(corpus=str(corpus), tokens=12 * BATCH, limit=10**7)


@pytest.fixture(scope="module")
def record(recipe, cache):
    ways = [Way.parse(text).check(recipe) for text in WAYS]
    return run(recipe, None, cache, device="cpu", ways=ways, rungs=False, float_score=False)


def test_each_way_is_compared_with_the_recipe_as_it_is(record):
    told = {row["technique"]: row for row in record.finishings}
    assert list(told) == ["int8_rows", "mse_clip", "ema", "sliding_window", "zstd_codec"]  # int4_rows is what the recipe has
    assert told["int8_rows"]["instead_of"] == ["int4_rows"]
    assert told["int8_rows"]["delta_bytes"] > 0
    assert told["int8_rows"]["delta_bpb"] < 0
    assert told["mse_clip"]["beside"] == ["int8_rows"]
    assert told["zstd_codec"]["delta_bpb"] == 0  # a codec changes no weight
    assert told["zstd_codec"]["delta_bytes"] != 0
    assert record.bpb_float is None


def test_a_difference_is_that_of_two_whole_runs(recipe, cache, monkeypatch):
    """On the whole text, a comparison says what two runs of their own say."""
    monkeypatch.setattr(finishing, "compare", functools.partial(compare, tokens=10**9))
    way = Way.parse("int8_rows")
    told = run(recipe, None, cache, device="cpu", ways=[way]).finishings[0]
    base, eight = (run(side, None, cache, device="cpu") for side in way.sides(recipe))
    assert told["bpb"] == pytest.approx(base.bpb, rel=1e-6)
    assert told["delta_bpb"] == pytest.approx(eight.bpb - base.bpb, rel=1e-4)
    code = code_bytes(way.sides(recipe)[1]) - code_bytes(recipe)  # a quick length of the script, within 1 %
    assert told["delta_bytes"] - code == (eight.bytes - eight.code_bytes) - (base.bytes - base.code_bytes)


def test_what_acts_in_training_is_refused(recipe):
    with pytest.raises(ValueError, match="acts during training"):
        Way.parse("xsa").check(recipe)
    with pytest.raises(ValueError, match="acts during training"):
        Way.parse("int8_rows@smear_gate").check(recipe)
    assert str(Way.parse("mse_clip@int5_rows:table=6+ema")) == "mse_clip@int5_rows:table=6+ema"


def rows(gaps, training=None):
    base = {"beside": [], "slot": "bits", "instead_of": ["int8_rows"], "bpb": 2.0, "bytes": 100, "tokens": 10, "seconds": 0.1}
    return [
        {
            "recipe": f"r{k}",
            "state": "complete",
            "bpb": 2.0,
            "training": training or f"t{k}",
            "spec": {"techniques": {}},
            "finishings": [base | {"technique": "int5_rows", "delta_bpb": float(gap), "delta_bytes": -7}],
        }
        for k, gap in enumerate(gaps)
    ]


def test_differences_are_averaged_over_trainings_with_students_interval():
    gaps = np.random.default_rng(0).normal(0.007, 0.002, 9)
    row = finishings(from_records(rows(gaps))).iloc[0]
    low, high = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
    assert row["delta_bpb"] == pytest.approx(gaps.mean())
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
    assert row["p"] == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue)
    assert (row["trainings"], row["bytes"]) == (9, -7)


def test_runs_that_share_a_training_count_once():
    row = finishings(from_records(rows([0.007, 0.007, 0.007], training="same"))).iloc[0]
    assert row["trainings"] == 1
    assert np.isnan(row["high"])
    assert "one training only" in row["doubt"]


def test_a_null_world_is_called_as_often_as_it_says():
    generator = np.random.default_rng(1)
    called = sum(finishings(from_records(rows(generator.normal(0, 0.002, 8)))).iloc[0]["p"] < 0.05 for _ in range(300))
    assert called <= 27  # 15 expected, more than 27 has a chance of 0.2 %


def test_nothing_finished_is_an_empty_table():
    assert finishings(pd.DataFrame({"bpb": [1.0]})).empty
    assert finishings(from_records([{"recipe": "a", "state": "complete", "bpb": 1.0, "spec": {"techniques": {}}}])).empty


def test_one_multiplier_for_every_interval():
    assert half_width(0.1, 1) == pytest.approx(0.1 * stats.t.ppf(0.975, 1))
    assert half_width(np.array([0.1, 0.2]), 30)[1] == pytest.approx(0.2 * stats.t.ppf(0.975, 30))
    assert np.isnan(half_width(0.1, 0))
