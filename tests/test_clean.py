"""Cleaning the stage cache: only our own files, only old ones, and nothing a run needs."""

from __future__ import annotations

import json
import os
import time

import pytest
from typer.testing import CliRunner

from golflab.model.stages import Cache
from golflab.search.cli.clean import clean, seconds_of
from golflab.search.cli.main import app
from golflab.search.ledger.drivers import Presence

DAY = 86_400.0
KEY, OTHER, RECIPE = "0123456789ab", "ba9876543210", "fedcba987654"


def put(path, days, size=1000):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def removed(runs, *paths, older_than=7 * DAY):
    """Which of the files are gone after cleaning, and whether the dry run had said so."""
    sizes = [path.stat().st_size for path in paths]
    dry = clean(runs, older_than, dry_run=True)
    assert all(path.exists() for path in paths)
    done = clean(runs, older_than)
    assert [(k.removed, k.freed, k.kept) for k in dry] == [(k.removed, k.freed, k.kept) for k in done]
    gone = [not path.exists() for path in paths]
    assert sum(k.removed for k in done) == sum(gone)
    assert sum(k.freed for k in done) == sum(size for size, went in zip(sizes, gone, strict=True) if went)
    return gone


def test_what_is_old_goes_and_what_is_young_stays(tmp_path, cache):
    names = ("train/{}.stage", "pack/{}.stage", "evaluate/{}.stage", "evaluate/{}.partial", "train/{}.checkpoint")
    old = [put(cache / name.format(KEY), 8) for name in (*names, f"train/{{}}-{RECIPE}.checkpoint")]
    young = [put(cache / name.format(OTHER), 6) for name in names]
    assert removed(tmp_path, *old, *young) == [True] * len(old) + [False] * len(young)


def test_a_file_of_somebody_else_stays(tmp_path, cache):
    names = ("notes.txt", "train/notes.txt", f"train/{KEY}.stage.bak", "train/x.stage", "evaluate/deep/0123456789ab.stage")
    foreign = [put(cache / name, 100) for name in names]
    target = put(tmp_path / "elsewhere", 100)
    link = cache / "train" / f"{OTHER}.stage"
    link.symlink_to(target)
    tokens = put(cache / "data" / "tokens-x" / "train.bin", 100)
    assert removed(tmp_path, *foreign, target, link, tokens) == [False] * 8


def test_unfinished_files_go_once_nobody_can_be_writing_them(tmp_path, cache):
    old = [put(cache / f"train/.{KEY}.stage.{'a' * 32}.tmp", 1), put(cache / "data/.train.bin.123.tmp", 1)]
    young = put(cache / f"pack/.{KEY}.stage.{'b' * 32}.tmp", 0.01)
    assert removed(tmp_path, *old, young, older_than=0.0) == [True, True, False]


def test_what_is_locked_stays_and_locks_that_nobody_holds_go(tmp_path, cache):
    held = [put(cache / f"train/{KEY}.stage", 9), put(cache / f"train/{KEY}-{RECIPE}.checkpoint", 9)]
    free = put(cache / f"train/{OTHER}.stage", 9)
    with Cache(cache).lock("train", OTHER):
        pass
    lock = cache / f"train/{OTHER}.lock"
    put(lock, 9)
    with Cache(cache).lock("train", KEY):
        os.utime(cache / f"train/{KEY}.lock", (0, 0))
        assert removed(tmp_path, *held, free, lock) == [False, False, True, True]
        assert (cache / f"train/{KEY}.lock").exists()
    assert removed(tmp_path, *held, cache / f"train/{KEY}.lock") == [True, True, True]


def test_the_checkpoint_of_a_trial_that_can_be_resumed_stays(tmp_path, cache):
    needed, left = (put(cache / f"train/{KEY}-{recipe}.checkpoint", 99) for recipe in (RECIPE, OTHER))
    (tmp_path / "first" / "trials" / RECIPE).mkdir(parents=True)
    put(tmp_path / "first" / "trials" / OTHER / "record.json", 99)
    assert removed(tmp_path, needed, left) == [False, True]


def test_while_an_experiment_runs_all_that_was_used_since_it_began_stays(tmp_path, cache):
    before, after = put(cache / f"train/{KEY}.stage", 30), put(cache / f"train/{OTHER}.stage", 10)
    put(tmp_path / "first" / "trials" / RECIPE / "recipe.json", 20)
    presence = Presence(tmp_path / "first")
    assert removed(tmp_path, before, after) == [True, False]
    presence.leave()
    assert removed(tmp_path, after) == [True]


def test_reading_an_entry_makes_it_young(tmp_path, cache):
    import torch

    store = Cache(cache)
    for key in (KEY, OTHER):
        store.write("pack", key, {"a": torch.zeros(2)}, {})
        os.utime(store.path("pack", key), (0, 0))
    assert store.read("pack", KEY) is not None
    clean(tmp_path, DAY)
    assert [store.path("pack", key).exists() for key in (KEY, OTHER)] == [True, False]


def test_a_lock_removed_while_another_waits_for_it_is_taken_anew(cache, monkeypatch):
    """Two processes must not hold the same lock because its file was removed in between."""
    store, path = Cache(cache), cache / "train" / f"{KEY}.lock"
    import fcntl

    honest, tries = fcntl.flock, []

    def slow(file, how):
        honest(file, how)
        tries.append(how)
        if len(tries) == 1:
            path.unlink()

    monkeypatch.setattr(fcntl, "flock", slow)
    with store.lock("train", KEY):
        assert len(tries) == 2
        assert path.exists()


def test_the_command_lists_by_kind_and_removes_nothing_when_only_asked(tmp_path, cache):
    path = put(cache / f"train/{KEY}.checkpoint", 9, 2_000_000)
    put(cache / f"pack/{KEY}.stage", 1)
    ask = ["clean", "--runs", str(tmp_path)]
    done = CliRunner().invoke(app, [*ask, "--dry-run"])
    assert done.exit_code == 0
    assert "Would remove 1 file, 2.0 MB." in done.stdout
    told = json.loads(CliRunner().invoke(app, [*ask, "--dry-run", "--json"]).stdout)
    kinds = {kind["name"]: kind for kind in told["kinds"]}
    assert (kinds["checkpoints"]["removed"], kinds["artifacts"]["files"], kinds["artifacts"]["removed"]) == (1, 1, 0)
    assert path.exists()
    assert "Removed 1 file," in CliRunner().invoke(app, ask).stdout
    assert not path.exists()


@pytest.mark.parametrize(("age", "seconds"), [("7d", 7 * DAY), ("1.5h", 5400.0), ("90m", 5400.0), ("0s", 0.0)])
def test_ages(age, seconds):
    assert seconds_of(age) == seconds


@pytest.mark.parametrize("age", ["7", "d", "-1d", "week", ""])
def test_an_age_that_is_none_is_refused(age):
    with pytest.raises(ValueError, match="--older-than"):
        seconds_of(age)


def test_a_folder_without_a_cache_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no stage cache"):
        clean(tmp_path, 0.0)
