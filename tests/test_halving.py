"""Successive halving: complete shorter schedules first, kept apart, and promoted by Optuna's own pruner."""

import dataclasses

import pytest
from fake_runs import bpb, run

from golflab.model.record import Record, records_in
from golflab.search.engine.halving import SHORTER, Halving, shorter
from golflab.search.engine.session import run_safely
from golflab.search.experiment.options import Options
from golflab.search.experiment.start import search
from golflab.search.upkeep.status import status_of
from golflab.spaces.presets import preset

RECIPE = preset("baseline", "proxy").with_(tokens=4096 * 128)


def test_shorter_schedules_are_complete_ones_with_fewer_tokens():
    assert [r.schedule.steps for r in shorter(RECIPE, 4)] == [32]
    assert [r.schedule.steps for r in shorter(RECIPE, 2)] == [32, 64]
    long = RECIPE.with_(tokens=4096 * 6400, seconds=64.0)
    assert [(r.schedule.steps, r.schedule.seconds) for r in shorter(long, 4)] == [
        (25, 0.25),
        (100, 1.0),
        (400, 4.0),
        (1600, 16.0),
    ]
    short = shorter(RECIPE, 4)[0]
    assert dataclasses.replace(short, schedule=RECIPE.schedule) == RECIPE
    with pytest.raises(ValueError, match="bounded by seconds"):
        shorter(RECIPE.with_(tokens=None, seconds=60.0), 4)
    with pytest.raises(ValueError, match="is larger than the"):
        shorter(RECIPE, 200)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"halving": 1}, "at least 2"), ({"halving": 4, "pruner": "median"}, "choose one"), ({"pruner": "medain"}, "wilcoxon")],
)
def test_what_cannot_be_is_said_before_any_work_starts(options, said):
    with pytest.raises(ValueError, match=said):
        Options(**options).score_pruner()


def test_a_promoted_trial_runs_whole_and_one_that_is_not_leaves_a_pruned_record(tmp_path):
    heard = []

    def hear(rung):
        heard.append(rung)
        return None if len(heard) < 2 else "not promoted"

    folder = tmp_path / "trials" / "a"
    stopped = Halving(run, run_safely, 2)(RECIPE, folder, tmp_path / "cache", on_rung=hear)
    assert (stopped.state, stopped.reason, stopped.trained) == ("pruned", "not promoted", False)
    assert [(r["step"], r["complete"], r["progress"]) for r in heard] == [(32, True, 0.25), (64, True, 0.5)]
    assert [r["trainings"] for r in heard] == [0.25, 0.5]
    assert [point["step"] for point in stopped.curve] == [32, 64]
    shorts = {record.recipe for _, record in records_in(tmp_path / SHORTER)}
    assert shorts == {r.hash for r in shorter(RECIPE, 2)}
    assert Record.load(folder) == stopped

    whole = Halving(run, run_safely, 2)(RECIPE, tmp_path / "trials" / "b", tmp_path / "cache", on_rung=lambda rung: None)
    assert (whole.state, whole.bpb, whole.recipe) == ("complete", bpb(RECIPE), RECIPE.hash)


def test_a_shorter_schedule_that_fails_fails_the_trial(tmp_path):
    def broken(recipe, folder, cache, **settings):
        raise RuntimeError("no luck")

    record = Halving(broken, run_safely, 4)(RECIPE, tmp_path / "trials" / "a", tmp_path / "cache")
    assert record.state == "failed"
    assert "no luck" in record.reason


def test_a_search_stops_trials_once_the_shorter_schedules_are_seen_to_predict(ray_cluster, tmp_path):
    options = {"forecaster": "fake_runs:Forecaster", "limit": 640_000, "cpus": 2, "runner": "fake_runs:run"}
    result = search(name="h", runs=str(tmp_path), trials=16, halving=4, **options)
    records = [r for _, r in records_in(tmp_path / "h" / "trials")]
    assert len(records) == 16
    assert result.counts["complete"] >= 5
    assert result.counts["pruned"] >= 1
    assert result.counts["complete"] + result.counts["pruned"] == 16
    assert all("after a complete schedule" in r.reason and not r.trained for r in records if r.state == "pruned")
    assert len({r.spec["schedule"]["tokens"] for r in records}) == 1
    assert len(list(records_in(tmp_path / "h" / SHORTER))) == 16
    assert result.best.bpb == min(r.bpb for r in records if r.state == "complete")
    told = status_of(tmp_path / "h")
    assert told["spent"]["trainings"] == pytest.approx(result.counts["complete"] + 16 / 4)
    (rung,) = told["rungs"]
    assert rung["reliable"]
    assert rung["trials"] == result.counts["complete"]
    assert "predicts the final score" in rung["words"]
