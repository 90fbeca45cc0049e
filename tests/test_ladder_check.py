"""The tables that say whether a ladder predicted: made from an experiment, and again from the small file."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ladder_check
from golflab.analysis.evidence.published import at_full_scale, load
from golflab.analysis.ladder.runs import arms
from tests.test_ladder_command import runs_table

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def runs():
    return arms(runs_table(seeds=3)).assign(se_documents=0.01, bytes=47_000).round(ladder_check.DIGITS)


@pytest.fixture(scope="module")
def said(runs):
    return ladder_check.check(runs, draws=40)


def test_the_tables_are_those_of_the_file(runs, said, tmp_path):
    ladder_check.write(runs, tmp_path / "a" / "l.csv.gz")
    assert ladder_check.check(ladder_check.read_runs(tmp_path / "a" / "l.csv.gz"), draws=40) == said
    ladder_check.write(runs, tmp_path / "again.csv.gz")
    assert (tmp_path / "again.csv.gz").read_bytes() == (tmp_path / "a" / "l.csv.gz").read_bytes()
    lines = gzip.decompress((tmp_path / "again.csv.gz").read_bytes()).decode().splitlines()
    assert len(lines) == 1 + len(runs)
    assert set(lines[0].split(",")) == {*runs.columns}


def test_they_have_both_parts(said):
    assert "**A rung held out" in said
    assert "**Published effects**" in said
    lines = [line for line in said.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} <= {7, 8, 9}
    assert sum(line.startswith("| ladder") for line in lines) == 2
    (held,) = [line for line in lines if line.startswith("| smear_gate") and line.endswith(("yes |", "no |"))]
    assert "±" in held
    (row,) = [line for line in lines if line.startswith("| smear_gate") and not line.endswith(("yes |", "no |"))]
    assert f"{at_full_scale(['smear_gate'])['delta_bpb'].iloc[0]:+.4f}" in row


def test_a_rung_is_named_by_scale_and_duration(runs):
    told = ladder_check.check(runs, "micro:5", draws=40)
    assert "held out: micro:5" in told
    for text in ("micro", "tiny:5", "micro:five"):
        with pytest.raises(ValueError, match="like micro:20"):
            ladder_check.check(runs, text)
    with pytest.raises(ValueError, match="no rung"):
        ladder_check.check(runs, "micro:7")
    with pytest.raises(ValueError, match="does not exist"):
        ladder_check.read_runs(Path("no/such.csv.gz"))


def test_the_error_over_documents_is_that_of_a_ratio(tmp_path):
    rng = np.random.default_rng(0)
    sizes = rng.integers(100, 1000, 200).astype(np.int64)
    bits = sizes * rng.normal(2.0, 0.3, 200)
    np.savez(tmp_path / "documents.npz", bits=bits, bytes=sizes)
    picks = rng.integers(0, 200, (2000, 200))
    drawn = bits[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    assert ladder_check._over_documents(tmp_path) == pytest.approx(drawn.std(), rel=0.06)
    assert np.isnan(ladder_check._over_documents(tmp_path / "none"))


def test_published_effects_at_full_scale_leave_smaller_settings_out():
    told = at_full_scale(["xsa", "smear_gate", "no_such"])
    assert told["technique"].tolist() == ["xsa", "smear_gate"]
    table = load()
    rows = table[(table["technique"] == "xsa") & (table["knob"] == "") & (table["instead_of"] == "") & (table["doubt"] == "")]
    assert (rows["scale"] == "smaller").any()
    assert told["sources"].iloc[0] == rows[rows["scale"] != "smaller"]["source"].nunique()
    assert (told["low"] < told["delta_bpb"]).all()


def test_the_documentation_has_a_page_of_every_ladder_that_is_kept(runs, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    monkeypatch.setattr(generate, "EXAMPLES", {})
    monkeypatch.setattr(generate, "LADDERS", tmp_path)
    ladder_check.write(runs, tmp_path / "l.csv.gz")
    (page,) = generate.write_examples(tmp_path / "site").values()
    assert page == tmp_path / "site" / "ladder" / "l.html"
    text = page.read_text()
    assert "At full scale" in text
    assert "tokens per parameter" in text
    assert page.stat().st_size < 1_500_000
