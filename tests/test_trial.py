"""Workers: what a run leaves behind when it ends, crashes, is stopped or runs out of memory."""

import errno
import gc
import os
import threading

import pytest
from fake_runs import run

from golflab.model.record import Record
from golflab.search.engine.process_group import Lost, load
from golflab.search.engine.session import Session, give_back_memory, run_safely
from golflab.spaces.presets import preset

RECIPE = preset("baseline")


def test_a_crash_becomes_a_failed_record_with_its_traceback_in_the_log(tmp_path):
    def broken(recipe, folder, cache, **settings):
        raise RuntimeError("no luck")

    record = run_safely(broken, RECIPE, tmp_path / "t", tmp_path / "cache")
    assert (record.state, record.reason) == ("failed", "RuntimeError: no luck")
    assert Record.load(tmp_path / "t").state == "failed"
    assert "Traceback" in (tmp_path / "t" / "log.txt").read_text()


def test_a_finished_run_is_not_repeated(tmp_path):
    first = run_safely(run, RECIPE, tmp_path / "t", tmp_path / "cache")
    assert run_safely(None, RECIPE, tmp_path / "t", tmp_path / "cache") == first  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: you tried")])
def test_out_of_memory_is_tried_once_more_with_half_the_tokens(tmp_path, error):
    tried = []

    def greedy(recipe, folder, cache, **settings):
        tried.append(settings.get("micro_tokens", recipe.schedule.micro_tokens))
        if len(tried) == 1:
            raise error
        return run(recipe, folder, cache, **settings)

    record = run_safely(greedy, RECIPE, tmp_path / "t", tmp_path / "cache")
    assert tried == [4096, 2048]
    assert record.recipe == Record.load(tmp_path / "t").recipe == RECIPE.hash
    (tmp_path / "t" / "record.json").unlink()
    run_safely(greedy, RECIPE, tmp_path / "t", tmp_path / "cache")
    assert tried == [4096, 2048, 2048]  # it was noted, for a resume


def test_of_several_processes_each_has_half_of_its_own_share_in_flight(tmp_path):
    tried = []

    def greedy(recipe, folder, cache, **settings):
        tried.append(settings.get("micro_tokens"))
        raise MemoryError

    run_safely(greedy, RECIPE, tmp_path / "t", tmp_path / "cache", processes=4)
    assert tried == [None, 512]


def test_a_damaged_record_is_no_record(tmp_path):
    first = run_safely(run, RECIPE, tmp_path / "t", tmp_path / "cache")
    path = tmp_path / "t" / "record.json"
    for damage in (path.read_bytes()[:100], b"", b"[]", b'{"recipe": "x"}'):
        path.write_bytes(damage)
        assert Record.read(tmp_path / "t") is None
        assert run_safely(run, RECIPE, tmp_path / "t", tmp_path / "cache") == first == Record.read(tmp_path / "t")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_halts_and_a_lost_process_is_handed_out_again_and_neither_leaves_a_record(tmp_path, number):
    def full(recipe, folder, cache, **settings):
        raise OSError(number, os.strerror(number))

    def lost(recipe, folder, cache, **settings):
        raise Lost("gone")

    kind, body = Session(full, RECIPE, tmp_path / "t", tmp_path / "cache").next()
    assert (kind, os.strerror(number) in body["reason"]) == ("halt", True)
    with pytest.raises(Lost, match="gone"):
        Session(lost, RECIPE, tmp_path / "t", tmp_path / "cache").next()
    assert [p.name for p in (tmp_path / "t").iterdir()] == ["log.txt"]


def test_a_watch_ends_the_waiting_for_a_run_that_hangs(tmp_path):
    def watch():
        raise Lost("a process of the trial was lost")

    hangs = threading.Event()
    session = Session(lambda *_, **__: hangs.wait(), RECIPE, tmp_path / "t", tmp_path / "cache", watch)
    with pytest.raises(Lost, match="was lost"):
        session.next()
    hangs.set()


def test_a_second_time_out_of_memory_is_a_failure(tmp_path):
    def greedy(recipe, folder, cache, **settings):
        raise MemoryError

    assert run_safely(greedy, RECIPE, tmp_path / "t", tmp_path / "cache").state == "failed"


def test_a_session_waits_at_rungs_and_can_be_stopped_there(tmp_path):
    session = Session(run, RECIPE, tmp_path / "t", tmp_path / "cache")
    assert session.next()[0] == "rung"
    assert session.next()[1]["step"] == 2
    session.stop("enough")
    assert Record.load(tmp_path / "t").state == "pruned"
    session = Session(run, RECIPE, tmp_path / "u", tmp_path / "cache")
    kinds = [session.next()[0] for _ in range(5)]
    assert kinds == ["rung"] * 4 + ["record"]


def test_what_is_alive_after_the_first_run_is_not_looked_through_after_every_other():
    gc.unfreeze()
    try:
        give_back_memory()
        kept = gc.get_freeze_count()
        assert kept > 10_000 > len(gc.get_objects())
        give_back_memory()
        assert gc.get_freeze_count() <= kept
    finally:
        gc.unfreeze()


def test_runners_are_named_by_module_and_function():
    assert load("fake_runs:run").__name__ == "run"
