"""Two arms over seeds and documents."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from golflab.analysis.comparison.paired import compare, documents, paired, seed_correlation
from golflab.analysis.table import from_records, load
from golflab.model.record import Record
from tests.planted import Planted


def arms_of(seeds, documents, effect, generator, seed_sd=0.02, noise=0.003):
    size = generator.integers(500, 5000, documents).astype(float)
    base = generator.normal(2.0, 0.2, documents)
    common = generator.normal(0, seed_sd, (seeds, 1))

    def arm(shift):
        return (
            base + common + shift + generator.normal(0, noise, (seeds, 1)) + generator.normal(0, 0.02, (seeds, documents))
        ) * size

    return arm(effect), arm(0.0), size


def test_pairing_measures_what_it_bought():
    new, old, size = arms_of(6, 60, -0.02, np.random.default_rng(0))
    row = paired(new, old, size).iloc[0]
    assert row["delta_bpb"] == pytest.approx(new.sum() / size.sum() / 6 - old.sum() / size.sum() / 6)
    assert row["correlation"] > 0.8
    assert row["se"] < row["se_unpaired"]
    assert row["low"] < -0.02 < row["high"]


def test_intervals_cover():
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(150):
        row = paired(*arms_of(4, 25, -0.01, generator), draws=200).iloc[0]
        hits += row["low"] <= -0.01 <= row["high"]
    assert hits / 150 > 0.9


def test_few_seeds_claim_no_more_than_they_may():
    """Three seeds, 25 documents, and an error that is all the seeds': p < 0.01 in 1 % of null worlds, not in 3.6 %."""
    generator, size = np.random.default_rng(5), np.full(25, 1000.0)
    hits = 0
    for _ in range(1500):
        new, old = (generator.normal(2.0, 0.01, (3, 1)) + generator.normal(0, 0.002, (3, 25)) for _ in range(2))
        hits += paired(new * size, old * size, size, draws=20).iloc[0]["p"] < 0.01
    assert hits <= 28  # 15 expected; more than 28 has a chance of 0.1 %


def test_one_seed_says_so():
    new, old, size = arms_of(1, 40, -0.02, np.random.default_rng(2))
    row = paired(new, old, size).iloc[0]
    assert "one seed" in row["doubt"]
    assert row["se"] == row["se_documents"]


def test_the_bootstrap_divides_by_the_bytes_of_the_documents_it_drew():
    """A difference that is the same for every byte does not depend on which documents are drawn, however long they are."""
    size = np.array([100.0, 900.0, 2500.0, 7000.0, 40.0])
    row = paired(2.1 * size[None], 2.0 * size[None], size).iloc[0]
    assert row["delta_bpb"] == pytest.approx(0.1)
    assert row["se_documents"] == pytest.approx(0.0, abs=1e-9)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="rows are seeds"):
        paired(np.ones((2, 3)), np.ones((2, 3)), np.ones(4))


def test_compare_reads_documents_of_an_experiment(tmp_path):
    generator = np.random.default_rng(3)
    new, old, size = arms_of(3, 30, -0.02, generator)
    for name, bits in (("new", new), ("old", old)):
        for s in range(3):
            spec = {"techniques": {"ema": {}} if name == "new" else {}, "schedule": {"tokens": 9}, "seed": s}
            record = Record(
                recipe=f"{name}{s}", seed=s, preset="p", state="complete", spec=spec, bpb=float(bits[s].sum() / size.sum())
            )
            record.save(tmp_path / "trials" / f"{name}{s}", bits[s], size.astype(int))
    table = load(tmp_path)
    row = compare(table, "new0", "old1").iloc[0]
    assert row["delta_bpb"] == pytest.approx(paired(new, old, size).iloc[0]["delta_bpb"])
    assert row["seeds"] == 3
    assert seed_correlation(table).iloc[0]["correlation"] > 0.5
    with pytest.raises(ValueError, match="no complete run"):
        compare(table, "nonsense", "old0")


def test_correlation_needs_a_layout():
    world = Planted.draw(0, 6)

    table = from_records(world.records(np.eye(6)))
    assert "needs two" in seed_correlation(table).iloc[0]["doubt"]


# ---------------------------------------------------------------------- small cases, worked out another way


def bits_of(rates, size):
    """(seeds, documents) bits of arms that score these bits per byte, seed by seed, on every document."""
    return np.array(rates, float)[:, None] * np.asarray(size, float)


SIZE = np.array([100.0, 300.0, 200.0, 400.0])
NEW = np.array([[2.0, 2.2, 2.1, 2.05], [2.3, 2.1, 2.2, 2.15], [1.9, 2.0, 2.1, 2.0]]) * SIZE
OLD = np.array([[2.1, 2.1, 2.4, 2.05], [2.3, 2.4, 2.2, 2.25], [2.0, 2.2, 2.1, 2.1]]) * SIZE


def resampled(gaps, size, draws):
    """Standard error over documents, each drawn sample written out: the seed of the draws is 0."""
    counts = np.random.default_rng(0).multinomial(len(size), [1 / len(size)] * len(size), size=draws)
    means = []
    for count in counts.tolist():
        drawn = [i for i, times in enumerate(count) for _ in range(times)]
        means.append(sum(gaps[i] for i in drawn) / sum(size[i] for i in drawn))
    return math.sqrt(sum((m - sum(means) / draws) ** 2 for m in means) / (draws - 1))


@pytest.mark.parametrize(("level", "asked"), [(0.95, {}), (0.8, {"level": 0.8})])
def test_every_column_of_a_small_comparison(level, asked):
    row = paired(NEW, OLD, SIZE, draws=60, **asked).iloc[0]
    a, b = NEW.sum(1) / 1000, OLD.sum(1) / 1000
    gaps = (NEW - OLD).sum(0) / 3
    assert row["delta_bpb"] == pytest.approx(sum(a - b) / 3)
    assert row["se_seeds"] == pytest.approx(np.std(a - b, ddof=1) / math.sqrt(3))
    assert row["se_documents"] == pytest.approx(resampled(gaps, SIZE, 60))
    assert row["se_unpaired"] == pytest.approx(math.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / 3))
    assert row["se"] == pytest.approx(math.sqrt(row["se_seeds"] ** 2 + row["se_documents"] ** 2))
    half = lambda tail: math.hypot(stats.t.isf(tail, 2) * row["se_seeds"], stats.t.isf(tail, 3) * row["se_documents"])
    assert row["low"] == pytest.approx(row["delta_bpb"] - half((1 - level) / 2))
    assert row["high"] == pytest.approx(row["delta_bpb"] + half((1 - level) / 2))
    assert half(row["p"] / 2) == pytest.approx(-row["delta_bpb"])
    assert row["correlation"] == pytest.approx(stats.pearsonr(a, b).statistic)
    assert (row["seeds"], row["documents"]) == (3, 4)
    assert row["doubt"].startswith("3 seeds: the error itself is badly known")


def test_without_shared_seeds_both_arms_spread_counts():
    row = paired(NEW[:2], OLD, SIZE, shared_seeds=False).iloc[0]
    a, b = NEW[:2].sum(1) / 1000, OLD.sum(1) / 1000
    assert row["se_seeds"] == row["se_unpaired"] == pytest.approx(math.hypot(abs(a[0] - a[1]) / 2, np.std(b, ddof=1) / 3**0.5))
    half = math.hypot(*(stats.t.isf(0.025, df) * row[name] for name, df in (("se_seeds", 3), ("se_documents", 3))))
    assert row["high"] - row["low"] == pytest.approx(2 * half)
    assert np.isnan(row["correlation"])
    assert row["doubt"] == "not distinguishable from zero"
    assert "2 and 2 seeds" in paired(NEW[:2], OLD[1:], SIZE, shared_seeds=False).iloc[0]["doubt"]
    assert "one seed" in paired(NEW[:1], OLD, SIZE, shared_seeds=False).iloc[0]["doubt"]


@pytest.mark.parametrize(
    ("new", "old", "doubt"),
    [
        ([2.0, 2.1, 2.2, 2.3], [3.0, 3.1, 3.2, 3.31], ""),  # four seeds know their spread well enough
        ([2.0, 2.1, 2.2], [3.0, 3.1, 3.21], "3 seeds: the error itself is badly known"),
        ([2.0, 2.2], [3.0, 3.21], "2 seeds: the error itself is badly known"),
        ([2.0, 2.1, 2.2, 2.1], [3.1, 3.0, 3.1, 3.2], "the arms hardly correlate over seeds: pairing bought nothing"),
        ([2.0, 2.1, 2.2, 2.1], [3.0, 3.1, 3.15, 3.2], ""),
        ([2.0, 2.0, 2.0, 2.0], [3.0, 3.1, 3.2, 3.1], ""),  # no spread, no correlation
        ([2.0], [3.0], "one seed: the error covers documents only, a fresh seed may differ by more"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_doubts_are_told_where_there_are_any(new, old, doubt):
    row = paired(bits_of(new, SIZE), bits_of(old, SIZE), SIZE).iloc[0]
    assert row["doubt"] == doubt
    known = len(new) > 2 and len(set(new)) > 1
    assert row["correlation"] == (pytest.approx(np.corrcoef(new, old)[0, 1]) if known else pytest.approx(np.nan, nan_ok=True))


def test_arms_that_are_the_same_cannot_be_told_apart():
    row = paired(OLD, OLD, SIZE).iloc[0]
    assert (row["delta_bpb"], row["low"], row["high"], row["se"]) == (0, 0, 0, 0)
    assert np.isnan(row["p"])
    assert "not distinguishable from zero" in row["doubt"]


def test_chances_reach_from_one_to_hardly_any():
    size = np.full(4, 256.0)
    opposite = paired(bits_of([2.0, 2.5], size), bits_of([2.5, 2.0], size), size).iloc[0]
    assert (opposite["delta_bpb"], opposite["p"]) == (0.0, 1.0)
    generator = np.random.default_rng(0)
    far = paired(4 + generator.normal(0, 1e-9, (12, 40)), np.full((12, 40), 1.0), np.ones(40)).iloc[0]
    assert 0 < far["p"] < 1e-50


def test_one_document_and_two():
    one = paired(NEW[:, :1], OLD[:, :1], SIZE[:1]).iloc[0]
    assert one["se_documents"] == 0.0
    assert np.isfinite([one["low"], one["high"], one["p"]]).all()
    assert paired(NEW[:, :2], OLD[:, :2], SIZE[:2]).iloc[0]["se_documents"] > 0


@pytest.mark.parametrize(
    ("new", "old", "size", "options"),
    [((2, 4), (2, 3), 4, {}), ((2, 3), (2, 4), 4, {}), ((2, 4), (3, 4), 4, {}), ((2, 3), (3, 4), 4, {"shared_seeds": False})],
)
def test_each_shape_must_agree(new, old, size, options):
    with pytest.raises(ValueError, match="rows are seeds"):
        paired(np.ones(new), np.ones(old), np.ones(size), **options)


def keep(folder, name, seed, bits, size, state="complete"):
    spec = {"techniques": {name: {}} if name != "plain" else {}, "schedule": {"tokens": 9}, "seed": seed}
    bpb = float(bits.sum() / size.sum())
    record = Record(recipe=f"{name}{seed}", seed=seed, preset="p", state=state, spec=spec, bpb=bpb)
    record.save(folder / "trials" / f"{name}{seed}", bits, size.astype(int))


def test_only_seeds_that_both_recipes_completed_are_compared(tmp_path):
    new, old, size = arms_of(5, 12, -0.05, np.random.default_rng(4))
    for seed in range(4):
        keep(tmp_path, "ema", seed, new[seed], size)
    for seed, state in ((1, "complete"), (3, "complete"), (4, "complete"), (2, "pruned")):
        keep(tmp_path, "plain", seed, old[seed], size, state)
    table = load(tmp_path)
    row = compare(pd.concat([table, table]), "ema0", "plain4").iloc[0]  # each run counts once
    expected = paired(new[[1, 3]], old[[1, 3]], size).iloc[0]
    assert row["comparison"] == "ema0 − plain4"
    assert row.drop("comparison").equals(expected.drop("comparison"))
    table.loc[table["recipe"] == "plain1", "state"] = "failed"
    one = compare(table, "ema0", "plain4").iloc[0]
    assert (one["seeds"], one["delta_bpb"]) == (1, paired(new[3], old[3], size).iloc[0]["delta_bpb"])
    assert "one seed:" in one["doubt"]
    assert "no seed in common" not in one["doubt"]
    with pytest.raises(ValueError, match="no complete run of recipe 'plain2'"):
        compare(table, "ema0", "plain2")


def test_recipes_without_a_seed_in_common_are_compared_as_such(tmp_path):
    new, old, size = arms_of(6, 12, -1.0, np.random.default_rng(4))
    for seed in range(2):
        keep(tmp_path, "ema", seed, new[seed], size)
    for seed in range(2, 6):
        keep(tmp_path, "plain", seed, old[seed], size)
    row = compare(load(tmp_path), "ema0", "plain2").iloc[0]
    expected = paired(new[:2], old[2:], size, shared_seeds=False).iloc[0]
    assert row["doubt"] == "no seed in common: not paired"
    assert row.drop(["comparison", "doubt"]).equals(expected.drop(["comparison", "doubt"]))


def test_documents_must_be_there_and_the_same(tmp_path):
    size = np.array([10, 20, 30])
    for seed, sizes in enumerate((size, size, size[:2], size + 1)):
        keep(tmp_path, "ema", seed, np.ones(len(sizes)), sizes)
    table = load(tmp_path).sort_values("seed").reset_index(drop=True)
    bits, sizes = documents(table[:2])
    assert bits.shape == (2, 3)
    assert np.array_equal(sizes, size)
    assert documents(table[:1])[0].shape == (1, 3)
    for other in (2, 3):
        with pytest.raises(ValueError, match="different documents"):
            documents(table.iloc[[0, other]])
    with pytest.raises(ValueError, match=r"a run has no documents.npz"):
        documents(table.assign(folder=""))
    with pytest.raises(ValueError, match=r"has no documents.npz"):
        documents(table.assign(folder=str(tmp_path)))


# ---------------------------------------------------------------------- what common seeds bought


def layout(scores, names=("plain", "ema", "swa")):
    """A table of recipes × seeds."""
    records = [
        Record(f"{name}{seed}", seed, "p", "complete", {"techniques": {name: {}} if name != "plain" else {}}, bpb=float(bpb))
        for name, row in zip(names, scores, strict=False)
        for seed, bpb in enumerate(row)
    ]
    return from_records([dataclasses.asdict(record) for record in records])


@pytest.mark.parametrize(("recipes", "seeds", "doubt"), [(2, 4, ""), (3, 5, ""), (3, 3, "few seeds: hardly more than a guess")])
def test_the_share_of_the_seed_is_that_of_the_analysis_of_variance(recipes, seeds, doubt):
    generator = np.random.default_rng(seeds)
    y = 2 + generator.normal(0, 0.03, (recipes, 1)) + np.linspace(0, 0.1, seeds) + generator.normal(0, 0.01, (recipes, seeds))
    row = seed_correlation(layout(y)).iloc[0]
    ms_seeds = recipes * sum((y[:, j].mean() - y.mean()) ** 2 for j in range(seeds)) / (seeds - 1)
    rest = sum((y[i, j] - y[i].mean() - y[:, j].mean() + y.mean()) ** 2 for i in range(recipes) for j in range(seeds))
    ms_rest = rest / ((recipes - 1) * (seeds - 1))
    share = lambda f: max((f - 1) / (f - 1 + recipes), 0.0)
    freedom = seeds - 1, (recipes - 1) * (seeds - 1)
    assert row["correlation"] == pytest.approx((ms_seeds - ms_rest) / (ms_seeds + (recipes - 1) * ms_rest))
    assert row["low"] == pytest.approx(share(ms_seeds / ms_rest / stats.f.ppf(0.975, *freedom)))
    assert row["high"] == pytest.approx(share(ms_seeds / ms_rest * stats.f.ppf(0.975, *freedom[::-1])))
    assert row["sigma"] == pytest.approx(math.sqrt((ms_seeds - ms_rest) / recipes + ms_rest))
    assert row["sigma_difference"] == pytest.approx(math.sqrt(2 * ms_rest))
    assert (row["recipes"], row["seeds"], row["doubt"]) == (recipes, seeds, doubt)


def test_seeds_that_explain_less_than_chance_explain_nothing():
    y = np.array([[2.0, 2.1, 2.2], [2.2, 2.1, 2.0]])  # what a seed adds to one it takes from the other
    row = seed_correlation(layout(y)).iloc[0]
    assert (row["correlation"], row["low"]) == (0.0, 0.0)
    assert row["sigma"] * math.sqrt(2) == pytest.approx(row["sigma_difference"])
    assert seed_correlation(layout(np.array([[2.0, 2.5], [2.25, 2.75]]))).iloc[0]["correlation"] == 1.0


def test_only_seeds_that_every_recipe_completed_count_and_too_few_say_so():
    y = np.array([[2.0, 2.1, 2.05, 2.3], [2.2, 2.25, 2.4, 2.35], [1.0, 1.1, 1.2, 1.3]])
    table = layout(y)
    assert seed_correlation(table.drop(columns="state")).iloc[0]["recipes"] == 3
    table.loc[table["recipe"] == "swa3", "state"] = "failed"
    row = seed_correlation(table).iloc[0]
    assert row.equals(seed_correlation(layout(y[:2])).iloc[0])
    for few, shape in ((y[:1], (1, 4)), (y[:2, :1], (2, 1)), (y[:1, :1], (1, 1))):
        found = seed_correlation(layout(few)).iloc[0]
        assert found["doubt"] == "needs two recipes run with the same two seeds"
        assert (found["recipes"], found["seeds"]) == shape
        assert np.isnan(found[["correlation", "low", "high", "sigma", "sigma_difference"]].to_numpy(float)).all()
