"""The published effects: every name exists, summaries are right, and they stand beside what was measured."""

import dataclasses
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from statsmodels.stats.meta_analysis import combine_effects
from typer.testing import CliRunner

from golflab.analysis.evidence import published
from golflab.analysis.inference.meta_analysis import random_effects
from golflab.analysis.report.report import report
from golflab.model.recipe import Schedule
from golflab.model.shape import Shape
from golflab.model.technique import catalogue
from golflab.search.cli.main import app
from tests.planted import Planted, write_experiment


@pytest.fixture(scope="module")
def table():
    return published.load()


def test_every_technique_and_knob_exists(table):
    known = catalogue()
    named = {name for text in table["technique"] for name in text.split()}
    assert named <= set(known)
    fields = {f"{part}.{f.name}" for part, cls in (("shape", Shape), ("schedule", Schedule)) for f in dataclasses.fields(cls)}
    knobs = {f"{name}.{knob}" for name, cls in known.items() for knob in cls.knobs()}
    assert set(table["knob"]) - {""} <= fields | knobs
    for row in table.itertuples():
        owner = row.knob.partition(".")[0]
        assert owner in {"", "shape", "schedule", *row.technique.split()}, row


LACKING = {"AdamW", "binary weights", "float weights", "relu", "ema and swa"}  # the other side of a row, in words
LACKING |= {"its earlier form", "skip weights that begin at 1", "all passes at once", "passes without a blend"}
VALUE = re.compile(r"(?:stride |over the last )?([.\d][.,\d]*)(?: bits)? where it (?:was|were) ([.\d][.,\d]*\d|\d)")


def test_every_value_is_one_that_its_knob_takes_and_every_other_side_is_known(table):
    known, checked = catalogue(), 0
    assert set(table["instead_of"]) - {""} <= LACKING | set(known)
    for row in table[table["knob"] != ""].itertuples():
        technique, _, name = row.knob.partition(".")
        if technique in known and (told := VALUE.match(row.change)):
            values = [float(text.replace(",", "")) for text in told.groups()]
            assert all(known[technique].knobs()[name].allows(v) for v in values), row
            checked += 1
    assert checked > 40


def test_a_row_has_no_technique_only_where_the_catalogue_has_none(table):
    left = table[(table["technique"] == "") & (table["knob"] == "")]
    assert len(left) == 13
    words = " ".join(left["change"])
    for lacking in ("Reptile", "PPM", "SwiGLU", "trigram", "Hadamard", "fp8", "label smoothing", "another machine"):
        assert lacking in words


def test_types_and_ranges(table):
    assert len(table) == 293
    assert table["delta_bpb"].dtype == float
    assert table["seeds_new"].dtype == "Int64"
    assert table["metric"].notna().all()  # no word outside the categories
    assert table["delta_bpb"].abs().max() < 1
    assert (table["source"].str.fullmatch(r"PR #\d+|record 2026-\S+")).all()
    assert not table.duplicated().any()
    raw = pd.read_csv(published.FILE, dtype=str, keep_default_na=False)
    for name, values in published.CATEGORIES.items():
        assert set(raw[name]) <= {*values, ""}


def test_errors_that_no_entry_published_are_assumed_by_kind(table):
    one, three = (table[(table["seeds_new"] == n) & (table["scale"] == "full")] for n in (1, 3))
    three = three[three["seeds_old"] == 3]
    apart = three[three["pairing"] != "weights"]
    assert apart["se_assumed"].min() >= 0.0007 * np.sqrt(2 / 3)
    together = three[three["pairing"] == "weights"]
    assert together["se_assumed"].median() < 0.5 * apart["se_assumed"].median()
    assert one["se_assumed"].max() > apart["se_assumed"].median()
    rough = table[table["delta_bpb"] == -0.42]["se_assumed"].iloc[0]
    assert rough > 0.01 / np.sqrt(12)  # two digits were printed


def test_a_random_effects_mean_is_statsmodels_and_may_not_be_narrower_than_the_model_says():
    y, e = np.array([-0.003, 0.001, -0.006, -0.001]), np.array([0.0007, 0.001, 0.0012, 0.0007])
    found = random_effects(y, e)
    reference = combine_effects(y, e**2, method_re="iterated", use_t=True)
    assert found.mean == pytest.approx(reference.mean_effect_re)
    assert found.between == pytest.approx(np.sqrt(reference.tau2))
    assert found.se == pytest.approx(max(reference.sd_eff_w_re_hksj, reference.sd_eff_w_re))
    alike = random_effects(np.array([-0.002, -0.002001, -0.001999]), np.full(3, 0.001))
    assert alike.se >= 0.001 / np.sqrt(3) - 1e-12
    single = random_effects(np.array([-0.002]), np.array([0.001]))
    assert (single.low, single.high) == pytest.approx((-0.002 - 0.00196, -0.002 + 0.00196), abs=1e-5)
    with pytest.raises(ValueError, match="positive error"):
        random_effects(np.array([0.1]), np.array([0.0]))


def test_a_null_world_of_settings_is_called_real_as_often_as_it_should():
    generator, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        errors = generator.choice([0.0004, 0.001, 0.002], 5)
        found = random_effects(generator.normal(0, 0.002, 5) + generator.normal(0, errors), errors)
        wrong += not found.low <= 0 <= found.high
    assert wrong / 200 <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 200)


def test_a_summary_counts_sources_and_leaves_doubt_out():
    rows = published.load().iloc[[0] * 4].copy()
    rows["delta_bpb"], rows["doubt"] = [-0.01, -0.03, 0.02, -0.5], ["", "", "", "it diverged"]
    rows["source"] = ["PR #1", "PR #1", "PR #2", "PR #3"]
    found = published.summary(rows).iloc[0]
    assert (found["sources"], found["better"], found["rows"]) == (2, 1, 3)
    mean = random_effects(np.array([-0.02, 0.02]), rows["se_assumed"].to_numpy()[[0, 2]])
    assert found["delta_bpb"] == pytest.approx(mean.mean)


def test_beside_says_where_signs_agree():
    measured = pd.DataFrame(
        {
            "technique": ["sliding_window", "leaky_relu_squared", "value_residual", "no_such", "xsa"],
            "delta_bpb": [0.02, -0.002, -0.001, -0.1, np.nan],
            "low": [0.01, -0.003, -0.003, -0.2, np.nan],
            "high": [0.03, -0.001, 0.001, -0.05, np.nan],
        }
    )
    found = published.beside(measured).set_index("technique")
    assert list(found.index) == ["sliding_window", "leaky_relu_squared", "value_residual", "xsa"]
    assert list(found["agreement"]) == ["no", "yes", "unclear", ""]
    assert list(found["same_sign"].iloc[:3]) == [False, True, True]
    assert pd.isna(found.loc["xsa", "same_sign"])
    for few in (measured.iloc[:0], measured.iloc[3:4], measured.iloc[:0].astype(float)):
        assert published.beside(few).empty


def test_a_report_shows_them(tmp_path):
    world = Planted.draw(1, 4)
    names = ("xsa", "smear_gate", "leaky_relu_squared", "technique_d")
    flags = np.array([[(k >> j) & 1 for j in range(4)] for k in range(16)])
    world = dataclasses.replace(world, names=names)
    told = report(write_experiment(tmp_path / "demo", world.records(flags)))
    body = json.loads(json.dumps(told.json(), allow_nan=False))
    assert list(body["ranking"][0])[-1] == "doubt"  # the contract of the ranking is unchanged
    assert {row["technique"] for row in body["published"]} == set(names[:3])
    console = Console(record=True, width=80, file=io.StringIO())
    told.text(console)
    shown = console.export_text()
    assert "same sign" in shown
    for row in told.published.itertuples():  # a number that is cut off would be a wrong number
        for value, high in ((row.delta_bpb, row.high), (row.published, row.published_high)):
            assert f"{value:+.4f} ± {high - value:.4f}" in shown
    page = told.html(tmp_path / "page.html").read_text()
    assert "Beside what was published" in page
    assert "Spread between machines" in page or "spread between machines" in page


def test_the_command():
    run = CliRunner().invoke
    body = json.loads(run(app, ["evidence", "xsa", "--json"]).stdout)
    assert all("xsa" in row["technique"] for row in body["effects"])
    assert any(row["sources"] > 1 for row in body["summary"])
    assert "assumed" in body["assumed"]
    shown = run(app, ["evidence", "xsa"]).stdout
    assert "PR #" in shown
    assert "random effects" in shown
    assert json.loads(run(app, ["evidence", "Hadamard", "--json"]).stdout)["effects"]
    everything = json.loads(run(app, ["evidence", "--json"]).stdout)
    assert len(everything["effects"]) == len(published.load())
    assert json.loads(run(app, ["evidence", "brotli_codec", "--json"]).stdout)["effects"] == []
    mistake = run(app, ["evidence", "smeer_gate"])
    assert "Did you mean 'smear_gate'" in str(mistake.exception)
