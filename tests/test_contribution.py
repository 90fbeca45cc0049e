"""Planted effects are found with honest errors, and what runs cannot show is refused."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from benchmarks.error_rates import DESIGNS, rates
from golflab.analysis.effects.contribution import COLUMNS, contribution, needed_runs
from golflab.analysis.effects.model import all_pairs
from golflab.analysis.inference.design_matrix import Design
from golflab.analysis.inference.pair_selection import price_of_selection, select_pairs
from golflab.analysis.inference.regression import least_squares
from golflab.analysis.table import from_records
from golflab.search.design.matrices import folded_plackett_burman, leave_one_out
from tests.planted import Planted


def rows_of(names, design):
    return np.array([[n in run for n in names] for run in design], float)


def test_finds_planted_effects():
    world = Planted.draw(1)
    table = contribution(from_records(world.records(rows_of(world.names, folded_plackett_burman(world.names)))))
    truth = dict(zip(world.names, world.average_effects(), strict=True))
    assert list(table.columns) == COLUMNS
    assert table["delta_bpb"].is_monotonic_increasing
    gaps = (table["delta_bpb"] - table["technique"].map(truth)).abs()
    assert (gaps < 4 * table["se"]).all()
    assert (table.loc[table["q_bh"] <= 0.05, "technique"].map(truth) != 0).all()
    assert ((table["low"] < table["delta_bpb"]) & (table["delta_bpb"] < table["high"])).all()
    bytes_truth = dict(zip(world.names, world.bytes, strict=True))
    assert ((table["bytes"] - table["technique"].map(bytes_truth)).abs() < 5 * table["bytes_se"]).all()


def test_equals_statsmodels_without_pairs():
    world = Planted.draw(3)
    flags = (np.random.default_rng(0).random((50, 12)) < 0.5).astype(float)
    runs = from_records(world.records(flags))
    table = contribution(runs, interactions=False).set_index("technique").loc[list(world.names)]
    reference = sm.OLS(runs["bpb"].to_numpy(), sm.add_constant(flags)).fit()
    assert np.allclose(table["delta_bpb"], reference.params[1:], atol=1e-10)
    if not any("spread differs" in n for n in table.attrs["notes"]):
        assert np.allclose(table["se"], reference.bse[1:], atol=1e-10)


def test_leave_one_out_is_the_difference_from_the_preset_and_says_so():
    world = Planted.draw(2, 6)
    flags = np.repeat(rows_of(world.names, leave_one_out(world.names)), 3, axis=0)
    runs = from_records(world.records(flags, seeds=np.tile(np.arange(3), 7)))
    table = contribution(runs).set_index("technique")
    means = runs.groupby(list(world.names))["bpb"].mean()
    everything = means.loc[(True,) * 6]
    for k, name in enumerate(world.names):
        without = means.loc[tuple(j != k for j in range(6))]
        assert table.loc[name, "delta_bpb"] == pytest.approx(everything - without, abs=1e-12)
        assert "together with all other techniques only" in table.loc[name, "doubt"]
    assert table.attrs["adjusted"] == ["seed"]
    assert table.attrs["df"] == 21 - 7 - 2


def test_common_seeds_cancel():
    world = Planted.draw(4, 6)
    flags = np.repeat(rows_of(world.names, folded_plackett_burman(world.names)), 3, axis=0)
    records = world.records(flags, seeds=np.tile(np.arange(3), len(flags) // 3))
    for record in records:
        record["bpb"] += 0.05 * record["seed"]
    assert contribution(from_records(records))["se"].max() < 0.001


def test_aliased_techniques_get_no_number():
    world = Planted.draw(5, 6)
    flags = (np.random.default_rng(1).random((40, 6)) < 0.5).astype(float)
    flags[:, 5] = flags[:, 2]
    table = contribution(from_records(world.records(flags))).set_index("technique")
    for name, other in (("technique_c", "technique_f"), ("technique_f", "technique_c")):
        assert np.isnan(table.loc[name, ["delta_bpb", "se", "p", "q_bh", "mde", "bytes"]].astype(float)).all()
        assert table.loc[name, "aliases"] == other
        assert other in table.loc[name, "doubt"]


def test_slot_mates_are_each_compared_with_the_default():
    generator = np.random.default_rng(0)
    choice = generator.integers(0, 3, 90)
    x = pd.DataFrame({"int5_rows": choice == 1, "int6_rows": choice == 2, "ema": generator.random(90) < 0.5})
    x["bpb"] = 2 - 0.01 * x["int5_rows"] - 0.02 * x["int6_rows"] + generator.normal(0, 0.0005, 90)
    table = contribution(x).set_index("technique")
    assert table.loc["int6_rows", "delta_bpb"] == pytest.approx(-0.02, abs=6e-4)
    assert table.loc["int5_rows", "delta_bpb"] == pytest.approx(-0.01, abs=6e-4)


def test_a_technique_that_never_failed_to_be_on():
    world = Planted.draw(6, 6)
    flags = (np.random.default_rng(2).random((30, 6)) < 0.5).astype(float)
    records = world.records(flags)
    for k, record in enumerate(records):
        if not flags[k, 0]:
            record.update(state="failed", bpb=None, bytes=None, reason="NaN")
    table = contribution(from_records(records)).set_index("technique")
    assert table.loc["technique_a", "doubt"] == "not identifiable: on in every complete run"
    assert np.isnan(table.loc["technique_a", "delta_bpb"])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_runs(count):
    world = Planted.draw(7, 6)
    records = world.records(rows_of(world.names, leave_one_out(world.names)))
    for record in records[count:]:
        record.update(state="failed", bpb=None, bytes=None)
    table = contribution(from_records(records))
    assert table["delta_bpb"].isna().all()
    assert table["doubt"].str.startswith("not identifiable").all()


def test_runs_of_another_length_are_never_mixed_in():
    world = Planted.draw(8, 6)
    flags = (np.random.default_rng(3).random((40, 6)) < 0.5).astype(float)
    records = world.records(flags)
    short = world.records(flags[:12], seed=1)
    for k, record in enumerate(short):
        record["spec"]["schedule"]["tokens"] = 1000
        record["bpb"] += 1.0
        record["recipe"] = f"short{k}"
    assert contribution(from_records(records + short)).attrs["runs"] == 40


def test_post_training_variants_of_one_training_are_not_independent():
    world = Planted.draw(9, 6)
    flags = np.repeat((np.random.default_rng(4).random((24, 6)) < 0.5).astype(float), 4, axis=0)
    flags[:, 5] = np.tile([0, 0, 1, 1], 24)
    records = world.records(flags)
    error = np.repeat(np.random.default_rng(5).normal(0, 0.004, 24), 4)
    for k, record in enumerate(records):
        record.update(training=f"t{k // 4}", bpb=record["bpb"] + error[k])
    table = contribution(from_records(records)).set_index("technique")
    assert table.attrs["errors"] == "random intercept per training"
    assert table.loc["technique_f", "se"] < table.loc["technique_a", "se"] / 4
    assert table.loc["technique_a", "se"] > 0.001


def test_one_seed_is_said_to_be_one():
    world, flags = Planted.draw(10, 6), (np.random.default_rng(6).random((30, 6)) < 0.5).astype(float)
    one, two = (contribution(from_records(world.records(flags, seeds=np.arange(30) % n))) for n in (1, 2))
    assert any("share one seed" in note for note in one.attrs["notes"])
    assert not any("share one seed" in note for note in two.attrs["notes"])
    assert two.attrs["adjusted"] == ["seed"]


def test_adaptive_histories_state_their_bias():
    world = Planted.draw(10, 6)
    table = from_records(world.records((np.random.default_rng(6).random((30, 6)) < 0.5).astype(float)))
    table.attrs["experiment"] = {"options": {"space": "starter"}}
    assert any("biased" in note for note in contribution(table).attrs["notes"])
    table.attrs["experiment"] = {"options": {"space": "starter", "design": ""}, "design": "screen"}
    assert not any("biased" in note for note in contribution(table).attrs["notes"])
    named = needed_runs(table)
    assert set(named["technique"]) == set(world.names)
    assert set(named["switch"]) <= {"on", "off"}


@pytest.mark.parametrize(("count", "errors"), [(3, "HC2"), (8, "HC3")])  # every combination is repeated, or hardly any
def test_unequal_variances_are_noticed(count, errors):
    generator = np.random.default_rng(7)
    flags = generator.random((120, count)) < 0.5
    table = pd.DataFrame(flags, columns=list("abcdefgh")[:count])
    table["bpb"] = 2 + generator.normal(0, 0.001, 120) * np.where(flags[:, 0], 8, 1)
    out = contribution(table)
    assert out.attrs["errors"] == errors
    assert any("spread may differ" in note for note in out.attrs["notes"])


def codecs_and_more(generator):
    names = ("zlib_codec", "zstd_codec", "lzma_codec")
    choice = generator.choice(3, 90, p=[0.5, 0.3, 0.2])
    table = pd.DataFrame({name: choice == k for k, name in enumerate(names)} | {"ema": generator.random(90) < 0.5})
    table["bpb"] = 2 - 0.01 * choice + generator.normal(0, 0.0005, 90)
    return table


def test_a_slot_never_left_to_its_default_is_compared_within_itself():
    out = contribution(codecs_and_more(np.random.default_rng(1))).set_index("technique")
    assert np.isnan(out.loc["zlib_codec", "delta_bpb"])
    assert (
        out.loc["zlib_codec", "doubt"] == "the reference of its slot: every other run has zstd_codec or lzma_codec in its place"
    )
    assert "compared with zlib_codec" in out.loc["zstd_codec", "doubt"]
    assert out.loc["zstd_codec", "delta_bpb"] == pytest.approx(-0.01, abs=0.001)
    assert out.loc["lzma_codec", "delta_bpb"] == pytest.approx(-0.02, abs=0.001)


def test_techniques_of_two_slots_that_were_never_on_together_are_aliases_not_rivals():
    generator = np.random.default_rng(2)
    table = pd.DataFrame({"unet_skips": generator.random(40) < 0.5, "xsa": generator.random(40) < 0.5})
    table["ema"] = ~table["unet_skips"]
    table["bpb"] = 2 + 0.0108 * table["unet_skips"] + generator.normal(0, 0.001, 40)
    out = contribution(table).set_index("technique")
    for name, other in (("unet_skips", "ema"), ("ema", "unet_skips")):
        assert np.isnan(out.loc[name, "delta_bpb"])
        assert out.loc[name, "doubt"] == f"not identifiable: these runs cannot tell it apart from {other}"
    assert np.isfinite(out.loc["xsa", "delta_bpb"])


def test_a_screen_calls_a_null_world_real_as_often_as_it_says():
    found = rates(DESIGNS[0], "null", 11, 100)
    assert found["runs"] == 24
    assert found["family"] <= 0.05 + 2 * (0.05 * 0.95 / 100) ** 0.5
    assert found["covered"] >= 0.94


def test_who_selects_pairs_pays_for_it():
    """In 24 runs of pure noise, pairs selected generously: Student's t as if none had been selected is wrong too often."""
    names = [f"technique_{k:02d}" for k in range(11)]
    on = np.array([[name in c for name in names] for c in folded_plackett_burman(names)])
    full = all_pairs(Design(np.column_stack([np.ones(24), on - 0.5]), ("1", *names)), 11)
    parents = list(range(1, 12))
    factor, df = price_of_selection(full, 24, parents, alpha=0.12)
    generator, wrong, naive = np.random.default_rng(7), [], []
    for y in generator.standard_normal((300, 24)):
        fit = least_squares(full.take(select_pairs(full, full.gram(y[:, None]), 24, parents, alpha=0.12)), y)
        t = np.abs(fit.beta / fit.se)[1:12]
        naive.append((t > stats.t.isf(0.025, fit.df[0])).mean())
        wrong.append((t / factor**0.5 > stats.t.isf(0.025, df)).mean())
    assert np.mean(naive) > 0.07
    assert 0.03 < np.mean(wrong) < 0.065
    table = pd.DataFrame(on, columns=names).assign(bpb=generator.standard_normal(24))
    assert contribution(table).attrs["df"] == pytest.approx(price_of_selection(full, 24, parents)[1])
