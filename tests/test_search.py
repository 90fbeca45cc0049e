"""Whole searches on a real Ray cluster, with instant runs: what ends, what is resumed, what survives a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from ray.exceptions import OutOfMemoryError
from ray.tune.execution.tune_controller import TuneController

from golflab.model.record import records_in
from golflab.search.engine.searcher import Watcher
from golflab.search.engine.standing import Budget
from golflab.search.experiment.experiment_file import read_experiment
from golflab.search.experiment.options import Options
from golflab.search.experiment.start import resume, search
from golflab.search.ledger.entries import HISTORY
from golflab.search.ledger.storage import open_storage

ROOT = Path(__file__).parent.parent
FAKE = {"forecaster": "fake_runs:Forecaster", "limit": 640_000, "cpus": 2}


def evaluations(runs):
    """How often each recipe was started and ended."""
    lines = [json.loads(line) for line in (runs / "cache" / "evaluations.jsonl").read_text().splitlines()]
    return {what: Counter(line["recipe"] for line in lines if line["what"] == what) for what in ("start", "end")}


class Opened(Watcher):
    """Keeps what it is told when a search goes on."""

    shown = 2

    def opened(self, found):
        self.found = found


def test_a_search_ends_with_what_was_asked_for_and_can_be_extended(ray_cluster, tmp_path):
    result = search(name="a", runs=str(tmp_path), runner="fake_runs:run", trials=6, **FAKE)
    assert result.finished
    assert result.counts["complete"] == result.counts["trained"] == 6
    assert result.best.bpb == min(r.bpb for _, r in records_in(tmp_path / "a"))
    assert all(r.bytes <= 640_000 for _, r in records_in(tmp_path / "a"))
    assert next(row["recipe"] for row in result.rows()) == result.best.recipe
    told = read_experiment(tmp_path / "a")
    assert told["counts"] == result.counts
    assert told["state"] == "finished"
    with pytest.raises(ValueError, match="golflab resume a"):
        search(name="a", runs=str(tmp_path), runner="fake_runs:run", **FAKE)
    seen = Opened()
    more = resume("a", str(tmp_path), seen, trials=8)
    assert more.counts["complete"] == 8
    assert (seen.found.standing.done, seen.found.standing.target) == (6, 8)
    assert min(record.bpb for _, record in seen.found.finished) == result.best.bpb
    assert max(evaluations(tmp_path)["end"].values()) == 1


def test_crashes_and_lost_workers_are_told_apart(ray_cluster, tmp_path):
    result = search(name="c", runs=str(tmp_path), runner="fake_runs:crashing", trials=7, seed=1, **FAKE)
    records = [r for _, r in records_in(tmp_path / "c")]
    assert result.counts["failed"] + result.counts["complete"] == len(records) == 7
    for record in records:
        names = record.spec["techniques"]
        assert (record.state == "failed") == ("smear_gate" in names)
        if record.state == "failed":
            assert record.reason == "RuntimeError: planted crash"
            assert "Traceback" in (tmp_path / "c" / "trials" / record.recipe / "log.txt").read_text()


def test_a_search_goes_on_when_ray_ends_a_worker_for_want_of_memory(ray_cluster, tmp_path, monkeypatch):
    """Tune itself gives up then, with trials running."""
    step, given_up = TuneController.step, []

    def interrupted(controller):
        step(controller)
        if not given_up and any(trial.status == "RUNNING" for trial in controller.get_trials()):
            given_up.append(controller)
            raise RuntimeError("Caught unexpected exception") from OutOfMemoryError("1 worker(s) were killed")

    monkeypatch.setattr(TuneController, "step", interrupted)
    result = search(name="m", runs=str(tmp_path), runner="fake_runs:slow", trials=6, **FAKE)
    assert given_up
    assert (result.finished, result.counts["complete"], result.counts["failed"]) == (True, 6, 0)
    study = optuna.load_study(study_name="m", storage=open_storage(None, tmp_path / "m"))
    assert any("its worker was lost" in " ".join(t.user_attrs.get(HISTORY, [])) for t in study.trials)


def test_what_the_pruner_stops_is_pruned(ray_cluster, tmp_path):
    result = search(name="p", runs=str(tmp_path), runner="fake_runs:swelling", trials=3, **FAKE)
    assert result.counts["pruned"] == 3
    records = [r for _, r in records_in(tmp_path / "p")]
    assert all(r.state == "pruned" and "over the limit" in r.reason and r.curve for r in records)
    assert result.best is None


def test_a_budget_of_trainings_ends_a_search(ray_cluster, tmp_path):
    result = search(name="b", runs=str(tmp_path), runner="fake_runs:run", trials=50, budget="4trainings", **FAKE)
    assert 4 <= result.counts["complete"] <= 5
    assert "budget" in result.reason


def test_a_killed_driver_repeats_and_loses_nothing(ray_cluster, tmp_path):
    """SIGKILL in the middle, of a search and of its resume; the next one, here, ends it: each trial is finished once."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"}
    options = {"name": "k", "runs": str(tmp_path), "runner": "fake_runs:slow", "trials": 6} | FAKE
    start = f"from golflab.search.experiment.start import search; search(**{options!r})"
    again = f"from golflab.search.experiment.start import resume; resume('k', {str(tmp_path)!r})"
    for round_, code in enumerate((start, again)):
        driver = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while len(list(records_in(tmp_path / "k" / "trials"))) < 2 * (round_ + 1) and driver.poll() is None:
            time.sleep(0.1)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert resume("k", str(tmp_path)).finished
    counts = evaluations(tmp_path)
    assert len(counts["end"]) == len(list(records_in(tmp_path / "k"))) == 6
    assert max(counts["end"].values()) == 1
    assert read_experiment(tmp_path / "k")["counts"]["complete"] == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "a/b"}, "name"),
        ({"trials": 0}, "trials"),
        ({"limit": 0}, "limit"),
        ({"budget": "soon"}, "2h"),
        ({"variants": -1}, "variants"),
        ({"pruner": "best"}, "wilcoxon"),
        ({"space": "sarter"}, "starter"),
        ({"preset": "basline"}, "baseline"),
        ({"runner": "nowhere:run"}, "imported"),
        ({"runs": "/proc/none"}, "cannot be written"),
        ({"trails": 3}, "trials"),
    ],
)
def test_a_mistake_is_found_before_any_work_starts(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        search(**{"name": "x", "runs": str(tmp_path), "runner": "fake_runs:run"} | options)
    assert not (tmp_path / "x" / "experiment.json").exists()


def test_resuming_nothing_says_what_there_is(tmp_path):
    with pytest.raises(ValueError, match="no experiment called 'x'"):
        resume("x", str(tmp_path))


def test_budgets_read_as_people_write_them():
    assert Budget.parse("2h").seconds == 7200
    assert Budget.parse("90m, 50trainings") == Budget(seconds=5400, trainings=50)
    assert Budget.parse("1.5gpuh").gpu_seconds == 5400
    assert Options().resume_command == "golflab resume search"
