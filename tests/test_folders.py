"""Taking care of experiments from the command line: list, copy, rename, delete."""

from __future__ import annotations

import json
import os
import shutil
import sys

import pytest
from made import made

from golflab.model.record import look_through
from golflab.search.cli import main as cli
from golflab.search.experiment.experiment_file import read_experiment
from golflab.search.ledger.drivers import Presence
from golflab.search.ledger.storage import JOURNAL
from golflab.search.upkeep.status import opened, status_of


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Two experiments, one of them with another one in its folder, a stage cache, and single runs."""
    runs = tmp_path_factory.mktemp("kept") / "runs"
    made(runs, "first", trials=3)
    made(runs, "second", trials=4, failing=1, left=1)
    made(runs / "first", "confirm-0123456789ab", trials=2)
    shutil.rmtree(runs / "first" / "cache")  # of a real one it is the same as the search's
    (runs / "cache" / "train").mkdir(parents=True)
    (runs / "single" / "trials" / "0123456789ab").mkdir(parents=True)
    return runs


@pytest.fixture
def runs(kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(kept, tmp_path / "runs")


@pytest.fixture
def golflab(monkeypatch, capsys):
    """Exit code, output and errors of the command line."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["golflab", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return run


def everything(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_list(runs, golflab):
    code, out, err = golflab("list", "--json")
    assert (code, err) == (0, "")
    first, second = json.loads(out)
    assert (first["name"], first["state"], first["done"], first["trials"]) == ("first", "finished", 3, 3)
    assert first["best"] == status_of(runs / "first")["best"]["bpb"]
    assert [one["name"] for one in first["nested"]] == ["first/confirm-0123456789ab"]
    assert (second["state"], second["done"], second["trials"], second["damaged"]) == ("interrupted", 3, 4, 0)
    assert second["age"] >= 0
    presence = Presence(runs / "second")
    assert json.loads(golflab("list", "--json")[1])[1]["state"] == "running"
    presence.leave()
    next((runs / "second" / "trials").glob("*/record.json")).write_text("{}")
    (runs / "first" / "experiment.json").write_text("{")
    code, out, err = golflab("list", "--runs", runs)
    assert code == 0
    assert "damaged" in out
    assert "2 of 4" in out
    assert "second: 1 damaged record left out" in err
    assert "experiment.json is damaged" in err
    assert "single" not in out


def test_a_copy_is_an_experiment_of_its_own(runs, golflab):
    before = everything(runs / "second")
    (runs / "second" / "link").symlink_to("/etc")
    os.mkfifo(runs / "second" / "trials" / "pipe")
    code, out, err = golflab("copy", "second", "third")
    assert (code, err) == (0, ""), err
    assert "Left out, because they are no ordinary files: link, trials/pipe." in out
    for name in ("second", "third"):
        told = status_of(runs / name)
        assert (told["name"], told["counts"]["complete"], told["counts"]["failed"]) == (name, 2, 1)
        assert told["resume"].startswith(f"golflab resume {name}")
    old, new = read_experiment(runs / "second"), read_experiment(runs / "third")
    assert old["id"] != new["id"]
    assert (old["study"], new["place"]) == (new["study"], str(runs / "third"))
    assert [r for _, r in look_through(runs / "third" / "trials").records] == [
        r for _, r in look_through(runs / "second" / "trials").records
    ]
    opened(runs / "third")[1].set_user_attr("mine", True)
    assert {k: v for k, v in everything(runs / "second").items() if k in before} == before
    assert not list(runs.glob(".*"))


def test_a_copy_takes_nested_experiments_along_and_nothing_of_the_cache(runs, golflab):
    assert golflab("copy", "first", "again", "--json")[0] == 0
    here, there = (runs / name / "confirm-0123456789ab" for name in ("first", "again"))
    assert read_experiment(here)["id"] != read_experiment(there)["id"]
    assert read_experiment(there)["place"] == str(there)
    assert status_of(there)["counts"]["complete"] == 2
    assert not (runs / "again" / "cache").exists()


def test_a_copy_while_a_driver_runs_has_what_had_ended(runs, golflab):
    presence = Presence(runs / "second")
    try:
        code, out, _ = golflab("copy", "second", "third")
    finally:
        presence.leave()
    assert code == 0
    assert "second is running" in out
    assert status_of(runs / "third")["state"] == "interrupted"


def test_a_renamed_experiment_goes_on_under_its_new_name(runs, golflab):
    assert golflab("rename", "first", "better")[0] == 0
    assert not (runs / "first").exists()
    told = status_of(runs / "better")
    assert (told["name"], told["counts"]["complete"]) == ("better", 3)
    assert told["resume"].startswith("golflab resume better")
    assert golflab("report", "better", "--json")[0] == 0
    presence = Presence(runs / "better" / "confirm-0123456789ab")  # what is within it runs
    try:
        code, _, err = golflab("rename", "better", "best")
        assert (code, "is running; stop it" in err) == (2, True)
        code, _, err = golflab("delete", "better", "--yes")
        assert (code, "is running; stop it" in err) == (2, True)
    finally:
        presence.leave()
    assert (runs / "better" / "experiment.json").exists()


def test_an_experiment_of_format_1_is_copied_and_renamed_too(runs, golflab):
    path = runs / "first" / "experiment.json"
    body = json.loads(path.read_text())
    for key in ("format", "id", "study", "place", "identity", "code", "machine", "consents", "continued"):
        body.pop(key, None)
    body["options"] |= {"name": "first", "runs": str(runs)}
    path.write_text(json.dumps(body))
    assert golflab("copy", "first", "new")[0] == 0
    assert golflab("rename", "first", "old")[0] == 0
    for name in ("new", "old"):
        assert (status_of(runs / name)["name"], status_of(runs / name)["counts"]["complete"]) == (name, 3)


def test_delete_says_what_goes_and_leaves_what_is_not_its_own(runs, golflab, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "dear").write_text("data")
    (runs / "first" / "trials" / "link").symlink_to(tmp_path / "outside")
    (runs / "first" / "notes.txt").write_text("mine")
    before = everything(runs / "second") | everything(runs / "cache")
    code, out, err = golflab("delete", "first", "--dry-run", "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["deleted"], told["trials"], told["nested"], told["stays"]) == (
        False,
        3,
        ["confirm-0123456789ab"],
        ["notes.txt"],
    )
    assert "3 records of trials" in err
    assert "These experiments in it are deleted, too: confirm-0123456789ab." in err
    code, out, err = golflab("delete", "first")  # nobody to ask here
    assert (code, "give --yes" in err) == (2, True)
    assert (runs / "first" / "experiment.json").exists()
    assert golflab("delete", "first", "--yes")[0] == 0
    assert [p.name for p in (runs / "first").iterdir()] == ["notes.txt"]
    assert (tmp_path / "outside" / "dear").read_text() == "data"
    assert everything(runs / "second") | everything(runs / "cache") == before
    assert golflab("delete", "second", "--yes")[0] == 0
    assert sorted(p.name for p in runs.iterdir()) == ["cache", "first", "single"]


def test_delete_asks(runs, golflab, monkeypatch):
    import typer

    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr(typer, "confirm", lambda *words, **more: False)
    assert golflab("delete", "second")[0] == 1
    assert (runs / "second" / "experiment.json").exists()
    monkeypatch.setattr(typer, "confirm", lambda *words, **more: True)
    assert golflab("delete", "second")[0] == 0
    assert not (runs / "second").exists()


def test_a_damaged_experiment_can_be_deleted(runs, golflab):
    (runs / "second" / "experiment.json").write_text("{")
    (runs / "second" / JOURNAL).unlink()
    assert golflab("delete", "second", "--yes")[0] == 0
    assert not (runs / "second").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["copy", "secnd", "x"], "Did you mean 'second'?"),
        (["rename", "secnd", "x"], "Did you mean 'second'?"),
        (["delete", "secnd", "--yes"], "Did you mean 'second'?"),
        (["repair", "secnd"], "Did you mean 'second'?"),
        (["copy", "second", "first"], "There is a 'first' in"),
        (["rename", "second", "first"], "There is a 'first' in"),
        (["copy", "second", "second"], "There is a 'second' in"),
        (["copy", "second", "a b"], "letters"),
        (["copy", "second", "../x"], "letters"),
        (["rename", "second", "cache"], "stage cache"),
        (["copy", "second", "Single"], "golflab run"),
        (["delete", "cache", "--yes"], "is no experiment"),
        (["delete", "single", "--yes"], "is no experiment"),
        (["copy", "cache", "x"], "is no experiment"),
        (["delete", ".", "--yes"], "no experiment"),
        (["delete", "..", "--yes"], "no experiment"),
        (["delete", "/etc", "--yes"], "no experiment"),
        (["delete", "alias", "--yes"], "is a link"),
        (["rename", "alias", "x"], "is a link"),
        (["list", "--runs", "nowhere"], "There is no folder"),
        (["copy", "second", "x", "--runs", "nowhere"], "There is no experiment"),
    ],
)
def test_a_mistake_gives_one_message_and_changes_nothing(runs, golflab, words, said):
    (runs / "alias").symlink_to(runs / "second")
    before = everything(runs)
    code, out, err = golflab(*words)
    assert (code, out) == (2, "")
    assert said in err.replace("\n", " ")
    assert "Traceback" not in err
    assert everything(runs) == before
    assert (runs / "alias").is_symlink()


def test_a_copy_that_cannot_be_written_leaves_nothing(runs, golflab, monkeypatch):
    honest, count = shutil.copy2, iter(range(10))

    def full(*words, **more):
        if next(count) == 4:
            raise OSError(28, os.strerror(28), str(words[1]))
        return honest(*words, **more)

    monkeypatch.setattr(shutil, "copy2", full)
    code, _, err = golflab("copy", "second", "third")
    assert (code, "No space left on device" in err) == (2, True)
    assert sorted(p.name for p in runs.iterdir()) == ["cache", "first", "second", "single"]


def test_a_path_will_do_instead_of_a_name(runs, golflab, monkeypatch, tmp_path):
    monkeypatch.chdir("/")
    assert golflab("rename", runs / "second", "other")[0] == 0
    assert (runs / "other" / "experiment.json").exists()
