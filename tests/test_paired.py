"""Two arms over seeds and documents."""

import numpy as np
import pytest

from analysis.paired import compare, paired, seed_correlation
from analysis.table import from_records, load
from model.record import Record
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
