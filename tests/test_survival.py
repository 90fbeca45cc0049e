"""Survival, the fast part: the ledger under SIGKILL, several drivers, full disks, damaged files. `make chaos` is long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import real_runs
from drivers import drive, fork, ledger, repeats_and_losses, witnessed

import golflab.model.training.loop
from golflab.model.record import Record, records_in
from golflab.model.run import run
from golflab.search.experiment.start import resume, run_plan, search
from golflab.search.ledger.entries import HISTORY
from golflab.search.ledger.ledger import MADE_AGAIN
from golflab.search.ledger.storage import open_storage

FAKE = {"forecaster": "fake_runs:Forecaster", "limit": 640_000, "cpus": 2}
ROOT = Path(__file__).parent.parent


def test_a_ledger_survives_any_moment_of_death(tmp_path):
    """Thirty SIGKILLs at random moments, of one or two drivers at work on one study; then one to finish."""
    code = [sys.executable, "-m", "tests.drivers", str(tmp_path), "120", "30", "0"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"}
    done = subprocess.run(code, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 30
    book = ledger(tmp_path, 120)
    assert repeats_and_losses(tmp_path, tmp_path, book, 120) == (0, 0)
    histories = [" ".join(t.user_attrs.get(HISTORY, [])) for t in book.study.get_trials()]
    assert any("its driver was gone" in history for history in histories)


def test_a_journal_that_cannot_grow_is_continued_once_there_is_room(tmp_path):
    """The disk fills up (the kernel refuses to let a file grow) in the middle of a line of the journal."""
    for largest in (3_000, 9_001, 16_002):
        driver = fork.Process(target=drive, args=(tmp_path, 20, largest))
        driver.start()
        driver.join()
        assert driver.exitcode == 1
    drive(tmp_path, 20)
    assert repeats_and_losses(tmp_path, tmp_path, ledger(tmp_path, 20), 20) == (0, 0)


def test_a_full_disk_halts_the_search_with_one_sentence_and_costs_no_trial(ray_cluster, tmp_path):
    (tmp_path / "full").touch()
    result = search(name="f", runs=str(tmp_path), runner="fake_runs:short_of_room", trials=4, **FAKE)
    assert not result.finished
    assert "No space left on device" in result.reason
    assert "golflab resume f" in result.reason
    (tmp_path / "full").unlink()
    result = resume("f", str(tmp_path))
    assert result.finished
    assert (result.counts["complete"], result.counts["failed"]) == (4, 0)


def test_a_loss_that_is_no_number_costs_its_own_trial_only(ray_cluster, tmp_path):
    options = {"runner": "real_runs:diverging", "name": "n", "runs": str(tmp_path), "cpus": 2}
    result = run_plan(real_runs.recipes(tmp_path, 4, 8), **options)
    assert (result.finished, result.counts["complete"], result.counts["failed"]) == (True, 2, 2)
    records = [record for _, record in records_in(tmp_path / "n")]
    assert {r.seed % 2: r.state for r in records} == {0: "complete", 1: "failed"}
    assert all("the loss became nan at step 3" in r.reason for r in records if r.seed % 2)
    resume("n", str(tmp_path))  # a failure is an end like any other: nothing is run again
    assert [record for _, record in records_in(tmp_path / "n")] == records


def test_a_damaged_record_is_made_again_and_nothing_else(ray_cluster, tmp_path):
    search(name="d", runs=str(tmp_path), runner="fake_runs:run", trials=4, **FAKE)
    whole = dict(records_in(tmp_path / "d"))
    damaged = next(iter(whole))
    (damaged / "record.json").write_bytes((damaged / "record.json").read_bytes()[:300])
    result = resume("d", str(tmp_path))
    assert (result.finished, result.counts["complete"]) == (True, 4)
    assert dict(records_in(tmp_path / "d")) == whole
    study = optuna.load_study(study_name="d", storage=open_storage(None, tmp_path / "d"))
    assert study.user_attrs[MADE_AGAIN] == [t.number for t in study.trials if t.user_attrs["recipe"] == damaged.name]
    assert witnessed(tmp_path)["end"] == {p.name: 1 + (p == damaged) for p in whole}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return real_runs.recipes(tmp_path_factory.mktemp("corpus"), 1, 24)[0]


def bpb(record: Record) -> float:
    assert record.state == "complete", record.reason
    assert record.bpb is not None
    return record.bpb


@pytest.fixture(scope="module")
def expected(recipe, tmp_path_factory) -> float:
    """The score of the recipe where nothing happens to its run."""
    return bpb(run(recipe, None, tmp_path_factory.mktemp("cache"), device="cpu"))


def test_half_the_tokens_in_flight_change_a_training_by_rounding_only(recipe, tmp_path, monkeypatch):
    """In float32 and over one step.

    Adam's first step is the gradient's sign: it can differ where the gradient is rounding itself (1e-7), and there the loss
    does not depend on the weight, so that the score of the weights before they are packed differs by rounding too.
    """
    monkeypatch.setattr("golflab.model.system.device._bfloat16_is_faster", lambda: False)
    recipe = recipe.with_(tokens=recipe.schedule.batch_tokens)
    whole = run(recipe, None, tmp_path / "a", device="cpu")
    halved = run(recipe, tmp_path / "t", tmp_path / "b", device="cpu", micro_tokens=recipe.shape.context)
    assert halved.bpb_float == pytest.approx(whole.bpb_float, rel=1e-4)
    assert halved.notes == [f"out of memory at micro_tokens={recipe.schedule.micro_tokens}; ran at {recipe.shape.context}"]
    assert halved.recipe == whole.recipe
    assert halved.training == whole.training


def interrupted(recipe, cache, monkeypatch) -> Path:
    """A training that dies in the middle; return its checkpoint."""
    monkeypatch.setattr(golflab.model.training.loop, "CHECKPOINT_SECONDS", 0.0)

    def dies(point):
        if point["step"] == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(recipe, None, cache, device="cpu", on_step=dies)
    return next(cache.glob("train/*.checkpoint"))


@pytest.mark.parametrize("damage", ["", "truncated", "altered"])
def test_a_training_continues_from_its_checkpoint_or_begins_again_with_a_note(recipe, expected, tmp_path, monkeypatch, damage):
    checkpoint = interrupted(recipe, tmp_path / "a", monkeypatch)
    content = checkpoint.read_bytes()
    if damage:
        checkpoint.write_bytes(content[: len(content) // 2] + (b"" if damage == "truncated" else b"x" * (len(content) // 2)))
    seen: list[int] = []
    record = run(recipe, None, tmp_path / "a", device="cpu", on_step=lambda point: seen.append(point["step"]))
    assert record.notes == (["its checkpoint was damaged; the training began again"] if damage else [])
    assert seen[0] == (1 if damage else 12)
    assert bpb(record) == expected


def test_a_disk_that_fills_up_costs_checkpoints_and_cache_entries_but_not_the_training(recipe, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(golflab.model.training.loop, "CHECKPOINT_SECONDS", 0.0)

    def full(path, *_):
        raise OSError(28, os.strerror(28), str(path))

    monkeypatch.setattr("golflab.model.system.tensors.write_atomic", full)
    record = run(recipe, None, tmp_path / "b", device="cpu")
    assert bpb(record) == expected
    assert [note.partition(": ")[2] for note in record.notes] == [os.strerror(28)] * len(record.notes)
    assert "a checkpoint could not be written" in record.notes[0]
    assert "'train' could not be kept" in record.notes[1]
    assert not list(tmp_path.glob("b/**/*.tmp"))
