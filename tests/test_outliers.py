"""One run that went astray is named; arms that scatter more get errors of their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.error_rates import DESIGNS, rates
from golflab.analysis.effects.contribution import contribution
from golflab.analysis.effects.model import fit_model
from golflab.analysis.effects.outliers import outlying_runs
from golflab.analysis.report.report import report
from golflab.search.design.matrices import folded_plackett_burman, leave_one_out
from tests.planted import Planted, write_experiment

NAMES = [f"technique_{k:02d}" for k in range(11)]
ON = np.array([[name in c for name in NAMES] for c in folded_plackett_burman(NAMES)])


def world(seed, diverged=None):
    score = 2 - 0.01 * ON[:, 0] + np.random.default_rng(seed).normal(0, 0.003, len(ON))
    if diverged is not None:
        score[diverged] += 0.5
    return pd.DataFrame(ON, columns=NAMES).assign(bpb=score, recipe=[f"r{k}" for k in range(len(ON))])


def test_a_run_that_diverged_is_named_and_the_effects_are_there_without_it():
    found = contribution(world(0, diverged=5))
    (far,) = found.attrs["outliers"]
    assert (far["recipe"], found.attrs["sigma"] > 0.05) == ("r5", True)
    assert far["value"] - far["expected"] == pytest.approx(0.5, abs=0.02)
    assert not (found["p_holm"] < 0.05).any()
    (note,) = [note for note in found.attrs["notes"] if "r5" in note]
    assert "outliers=False" in note
    clean = contribution(world(0, diverged=5), outliers=False)
    assert clean.attrs["runs"] == len(ON) - 1
    assert clean.attrs["sigma"] < 0.005
    assert clean["technique"].iloc[0] == NAMES[0]
    assert clean["p_holm"].iloc[0] < 0.05
    assert clean.attrs["outliers"] == found.attrs["outliers"]


def test_no_run_of_a_null_world_is_named():
    assert sum(len(outlying_runs(fit_model(world(seed)))) > 0 for seed in range(60)) <= 2
    assert contribution(world(1)).attrs["outliers"] == []


def test_several_that_hide_each_other_are_found_and_a_tenth_of_the_runs_at_most():
    table = world(2)
    table.loc[[3, 17], "bpb"] += [0.4, 0.5]
    assert set(outlying_runs(fit_model(table)).index) == {3, 17}
    table["bpb"] += 0.5 * (np.arange(len(table)) % 3 == 0)
    assert len(outlying_runs(fit_model(table))) <= len(table) // 10


def test_the_report_shows_both(tmp_path):
    world = Planted.draw(3, count=7)
    names = list(world.names)
    on = np.array([[name in c for name in names] for c in folded_plackett_burman(names)])
    records = world.records(on, seed=4)
    records[2]["bpb"] += 0.4
    folder = write_experiment(tmp_path / "odd", records)
    page = report(folder).html(tmp_path / "page.html").read_text()
    assert "Without the outliers (1 run far from what all others say)" in page
    assert any("far from what all other runs say" in note for note in report(folder).contributions.attrs["notes"])


def test_an_arm_that_scatters_more_gets_an_error_of_its_own():
    """Four times the noise in one arm of a leave-one-out: pooled errors cover its effect in 70 % of cases."""
    assert rates(DESIGNS[2], "uneven", 7, 40)["covered"] >= 0.9 - 2 * (0.9 * 0.1 / 40) ** 0.5
    even = rates(DESIGNS[2], "null", 7, 30)
    assert even["covered"] >= 0.92
    assert even["half_width"] < 2.1
    generator, names = np.random.default_rng(5), NAMES[:7]
    arms = [c for c in leave_one_out(names) for _ in range(3)]
    on = np.array([[name in c for name in names] for c in arms])
    score = generator.normal(2, 0.001, len(on)) + np.where(on[:, 0], 0.0, 0.02) * np.tile([-1, 0, 1], len(on) // 3)
    found = contribution(pd.DataFrame(on, columns=names).assign(bpb=score)).set_index("technique")
    assert found["se"].idxmax() == names[0]
    assert found["se"].max() > 1.5 * found["se"].median()
    assert any("HC2" in note for note in found.attrs["notes"])
