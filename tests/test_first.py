"""A first search: which design a machine gets, that it runs to its end, and that every row of its report has a number."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from golflab.analysis.report.report import report
from golflab.search.design.first import DESIGNS, FINISH, MINUTES, Pace, announce
from golflab.search.experiment.experiment_file import read_experiment
from golflab.search.experiment.options import Options
from golflab.search.experiment.start import first, resume
from golflab.spaces.catalogue import FIRST

FAKE = {"runner": "fake_runs:finishing", "forecaster": "fake_runs:Forecaster", "limit": 640_000, "cpus": 2}
FIRST_SEARCH = {"preset": "baseline", "space": "first", "scale": "nano", "finish": FINISH, "rungs": False, "float_score": False}


def pace(slower):
    """Of two cores that make a run in 9 seconds, or so many times slower ones."""
    return Pace(9.0 * slower, 2, 24_000 / slower)


def planned(design, tmp_path, name):
    options = FIRST_SEARCH | FAKE | {"name": name, "runs": str(tmp_path)}
    asked = Options(**options)
    plan = design.plan(asked.recipe(), asked.load_space())
    return plan, options | {"trials": len(plan) + design.proposals, "confirm": design.seeds}


@pytest.mark.parametrize(("slower", "runs"), [(1, 24), (3, 8), (20, 8)])
def test_a_machine_gets_the_richest_design_it_can_finish_and_it_ends(ray_cluster, tmp_path, slower, runs):
    chosen = pace(slower).choose()
    assert chosen.runs == runs
    plan, options = planned(chosen, tmp_path, "f")
    assert plan[0].hash == Options(**options).recipe().hash
    result = first(plan, **options)
    assert result.finished
    assert result.counts["complete"] == len(plan) + chosen.proposals
    told = report(tmp_path / "f")
    effects = told.contributions.set_index("technique")
    assert set(effects.index[effects["se"].notna()]) == set(chosen.names)
    assert not effects["doubt"].str.contains("not identifiable").loc[list(chosen.names)].any()
    assert len(told.finishings) == len(FINISH)
    assert (told.finishings["trainings"] == len(plan) + chosen.proposals).all()
    assert told.confirmed["seeds"].tolist() == [chosen.seeds]
    assert np.isfinite(told.confirmed["high"]).all()
    screen = io.StringIO()
    told.text(Console(file=screen, width=140))
    table = screen.getvalue().partition("What each technique was worth")[2]
    assert "–" not in table


def test_the_leanest_design_is_taken_however_slow_the_machine_is_and_said():
    slow = pace(100)
    assert slow.choose() is DESIGNS[-1]
    recipe = Options(**FIRST_SEARCH).recipe()
    said = " ".join(announce(slow, slow.choose(), recipe))
    assert f"needs about {slow.minutes(DESIGNS[-1]):.0f} minutes" in said
    assert "run to its end" in said
    assert "needs about" not in " ".join(announce(pace(1), pace(1).choose(), recipe))


def test_every_design_identifies_what_it_varies():
    preset = Options(**FIRST_SEARCH)
    for design in DESIGNS:
        recipes = design.plan(preset.recipe(), preset.load_space())
        assert len(recipes) == design.runs
        on = np.array([[t in {x.name for x in r.techniques} for t in design.names] for r in recipes], float)
        seeds = np.array([[r.seed == seed for seed in range(design.blocks)] for r in recipes], float)
        assert (seeds.sum(axis=0) == design.runs / design.blocks).all()
        rows = np.hstack([seeds, on - 0.5])
        assert np.allclose(rows.T @ rows, np.diag(np.diag(rows.T @ rows)))  # orthogonal, to the seeds too
        assert design.df >= 3
        assert set(design.names) <= set(FIRST)
    assert [d.total for d in DESIGNS] == sorted((d.total for d in DESIGNS), reverse=True)


def test_effects_come_from_the_design_and_what_the_search_adds_is_left_out(ray_cluster, tmp_path):
    plan, options = planned(DESIGNS[-1], tmp_path, "g")
    first(plan, **options)
    before = report(tmp_path / "g").contributions.set_index("technique")
    more = resume("g", str(tmp_path), trials=len(plan) + 8)
    assert more.counts["complete"] == len(plan) + 8
    after = report(tmp_path / "g")
    assert after.contributions.set_index("technique").loc[before.index, "delta_bpb"].equals(before["delta_bpb"])
    assert any("8 further runs" in note for note in after.contributions.attrs["notes"])
    assert len(after.confirmed) == 1  # of the best there is now


def test_a_combination_refused_for_its_size_is_shown_with_its_bytes(ray_cluster, tmp_path):
    plan, options = planned(DESIGNS[-1], tmp_path, "h")
    options["limit"] = 600_000  # everything on does not fit
    plan = [r.with_(limit=600_000) for r in plan]
    result = first(plan, **options | {"confirm": 0})
    assert result.counts["not_fitting"] >= 1
    assert result.counts["complete"] == len(plan) + DESIGNS[-1].proposals
    refusal = read_experiment(tmp_path / "h")["refusal"]
    assert refusal["bytes"]["mid"] > refusal["limit"] == 600_000
    assert "bigram_hash" in refusal["words"]
    screen = io.StringIO()
    report(tmp_path / "h").text(Console(file=screen, width=200))
    assert f"{refusal['bytes']['mid']:,.0f} bytes" in screen.getvalue()
    assert json.loads((tmp_path / "h" / "experiment.json").read_text())["planned"]


def test_minutes_grow_with_the_machine_and_the_design():
    assert pace(1).minutes(DESIGNS[0]) < MINUTES < pace(20).minutes(DESIGNS[-1])
    for slower in (1, 5):
        minutes = [pace(slower).minutes(d) for d in DESIGNS]
        assert minutes == sorted(minutes, reverse=True)
