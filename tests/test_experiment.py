"""The folder is the experiment: copied, renamed, moved, given by its path; and what must not change about it."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import optuna
import pytest
from made import FAKE, drive, made, text
from test_cli import golflab

from golflab.model.record import Record, records_in
from golflab.search.cli.export import find_trial
from golflab.search.experiment.again import renew
from golflab.search.experiment.checks import free_name
from golflab.search.experiment.consent import _given
from golflab.search.experiment.drive import open_ledger
from golflab.search.experiment.experiment_file import RESERVED, check_writable, locate, read_experiment
from golflab.search.experiment.folder import reopen
from golflab.search.experiment.start import options_of, resume, search
from golflab.search.ledger.storage import open_storage
from golflab.search.upkeep.status import status_of, write_curves
from golflab.spaces.presets import preset

ROOT = Path(__file__).parent.parent


def snapshot(folder):
    """Every file of a folder, with its content and its time of change."""
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}


def edited(folder, **changes):
    """An experiment's file, with some of its keys changed."""
    path = folder / "experiment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# ---------------------------------------------------------------------- copied, moved, renamed


def test_a_copy_is_an_experiment_of_its_own_and_runs_beside_the_original(ray_cluster, monkeypatch, capsys, tmp_path):
    original = made(tmp_path, "a")
    before = snapshot(original)
    copy = Path(shutil.copytree(original, tmp_path / "b"))
    assert golflab(monkeypatch, "resume", "b", "--runs", tmp_path, "--trials", 4, "--json") == 0
    assert "is a copy of" in capsys.readouterr().err
    assert snapshot(original) == before
    told, of_original = read_experiment(copy), read_experiment(original)
    assert told["id"] != of_original["id"]
    assert (told["place"], told["name"], told["counts"]["complete"]) == (str(copy), "b", 4)
    assert len(list(records_in(copy / "trials"))) == 4
    assert status_of(original)["counts"]["complete"] == 3
    assert status_of(copy)["resume"].startswith("golflab resume b --runs")
    again = json.loads((copy / "experiment.json").read_text())["id"]
    resume(copy)  # it stays what it has become
    assert read_experiment(copy)["id"] == again


def test_what_is_renamed_or_moved_goes_on_as_what_it_is(monkeypatch, capsys, tmp_path):
    runs = tmp_path / "runs"
    folder = made(runs, "a")
    known = read_experiment(folder)["id"]
    moved = tmp_path / "else where" / "c c"
    moved.parent.mkdir()
    shutil.move(folder, moved)
    monkeypatch.chdir(tmp_path)
    for words in (["status", "c c", "--runs", "else where"], ["status", "else where/c c"], ["report", moved]):
        assert golflab(monkeypatch, *words, "--json") == 0
    assert golflab(monkeypatch, "resume", moved, "--json") == 0
    told = read_experiment(moved)
    assert (told["id"], told["study"], told["name"], told["place"]) == (known, "a", "c c", str(moved))
    assert not (runs / "a").exists()
    assert not (tmp_path / "runs" / "c c").exists()
    capsys.readouterr()
    assert golflab(monkeypatch, "status", moved) == 0
    assert capsys.readouterr().out.startswith("c c: finished")
    (runs / "link").symlink_to(moved)
    assert locate("link", runs) == moved
    assert reopen(options_of("link", runs))[0].id == known  # a link is no copy
    assert find_trial(moved, "0")[1].state == "complete"


def test_a_file_of_the_first_format_goes_on_and_is_brought_up_to_date(tmp_path):
    folder = made(tmp_path, "old")
    told = json.loads((folder / "experiment.json").read_text())
    for key in ("format", "id", "study", "place", "identity", "code", "machine", "continued", "consents"):
        del told[key]
    new = {"binding", "tokenizer"}
    options = {k: v for k, v in told["options"].items() if k not in new} | {"name": "old", "runs": "runs"}
    (folder / "experiment.json").write_text(json.dumps(told | {"options": options}))
    renamed = folder.rename(tmp_path / "new")
    assert status_of(renamed)["counts"]["complete"] == 3
    _given.clear()  # as in another process
    with pytest.raises(ValueError, match="fake_runs"):
        resume("new", tmp_path)  # it carries no consent
    resume("new", tmp_path, trust=True)
    told = read_experiment(renamed)
    assert (told["format"], told["study"], told["name"], told["place"]) == (2, "old", "new", str(renamed))
    assert told["identity"]["recipe"]["limit"] == 640_000
    resume("new", tmp_path)


def test_what_confirms_a_search_moves_with_it(tmp_path):
    folder = made(tmp_path / "one", "a")
    inside = made(folder, "confirm-x", design="confirm", plan=[preset("baseline").with_(seed=s) for s in (1, 2)], trials=2)
    assert options_of(inside).cache_folder == tmp_path / "one" / "cache"
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    copied = options_of("confirm-x", tmp_path / "two" / "a")
    assert copied.cache_folder == tmp_path / "two" / "cache"
    assert copied.folder == tmp_path / "two" / "a" / "confirm-x"


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root can be somebody else")
def test_another_user_may_look_and_is_told_in_one_sentence_what_to_do():
    with tempfile.TemporaryDirectory(prefix="golflab-user-") as place:
        os.chmod(place, 0o755)
        folder = made(Path(place), "a")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        before = snapshot(folder)
        someone = [
            "setpriv",
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            sys.executable,
            "-m",
            "golflab.search.cli.main",
        ]
        environment = os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}", "HOME": "/nonexistent"}

        def run(*words):
            told = [*someone, *words, "--runs", place]
            return subprocess.run(told, env=environment, capture_output=True, text=True, cwd=ROOT, check=False)

        if "Permission" in (done := run("status", "a", "--json")).stderr and not done.stdout:
            pytest.skip("another user cannot read this checkout")
        assert json.loads(done.stdout)["counts"]["complete"] == 3
        done = run("resume", "a", "--trust")
        assert done.returncode == 2
        assert "belongs to user root and cannot be written by user nobody" in done.stderr
        assert "Traceback" not in done.stderr
        assert snapshot(folder) == before


# ---------------------------------------------------------------------- one storage for several


def test_one_study_is_not_shared_by_two_experiments(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    folder = made(tmp_path / "one", "s", storage=url)
    for change, said in (
        ({"tokens": 81_920}, "schedule.tokens: 524288 then, 81920 now"),
        ({"preset": "seed_1499"}, "the preset's"),
        ({"limit": 700_000}, "limit: 640000 then, 700000 now"),
        ({"space": "first"}, "the space's"),
        ({"corpus": str(text(tmp_path / "t.jsonl"))}, "data.corpus: sotu then"),
        ({"halving": 4}, "the option halving: none then, 4 now"),
        ({}, "golflab resume s --runs"),
    ):
        with pytest.raises(ValueError, match=f"belongs to the experiment in {folder}") as error:
            search(**FAKE | {"name": "s", "runs": str(tmp_path / "two"), "storage": url, "trials": 3} | change)
        assert said in str(error.value)
    assert not (tmp_path / "two" / "s" / "experiment.json").exists()
    assert resume(folder).counts["complete"] == 3
    moved = folder.rename(tmp_path / "renamed")
    assert resume(moved).counts["complete"] == 3
    assert optuna.get_all_study_names(open_storage(url, moved)) == ["s"]
    optuna.create_study(study_name="other", storage=url)
    with pytest.raises(ValueError, match="exists already and belongs to no known experiment"):
        search(**FAKE | {"name": "other", "runs": str(tmp_path), "storage": url})


def test_a_copy_that_shares_a_storage_gets_a_study_of_its_own(tmp_path):
    pytest.importorskip("golflab.search.upkeep.repair")
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    original = made(tmp_path, "a", storage=url)
    before = snapshot(original)
    copy = Path(shutil.copytree(original, tmp_path / "b"))
    assert resume(copy).counts["complete"] == 3
    assert snapshot(original) == before
    told = read_experiment(copy)
    assert told["study"].startswith("a-")
    assert sorted(optuna.get_all_study_names(open_storage(url, copy))) == ["a", told["study"]]
    assert len(optuna.load_study(study_name="a", storage=url).trials) == 3
    assert status_of(copy)["counts"]["complete"] == 3
    assert find_trial(copy, "1")[1].recipe == find_trial(original, "1")[1].recipe
    assert resume(copy).finished


# ---------------------------------------------------------------------- names


def test_names_that_golflab_needs_itself_are_refused(tmp_path):
    for name in (*RESERVED, "Single", "CACHE"):
        with pytest.raises(ValueError, match="choose another --name"):
            search(**FAKE | {"name": name, "runs": str(tmp_path)})
        assert free_name(tmp_path, name) == f"{name}-2"
    (tmp_path / "x" / "trials").mkdir(parents=True)
    with pytest.raises(ValueError, match="is not an experiment"):
        search(**FAKE | {"name": "x", "runs": str(tmp_path)})


# ---------------------------------------------------------------------- failed trials


def test_failed_trials_run_again_and_counts_stay_true(ray_cluster, monkeypatch, capsys, tmp_path):
    folder = made(tmp_path, "f", trials=4, failing=2)
    failed = {r.recipe for _, r in records_in(folder) if r.state == "failed"}
    assert (len(failed), status_of(folder)["counts"]["failed"]) == (2, 2)
    assert resume(folder).counts["failed"] == 2  # a failure is an end like any other, unless asked
    assert golflab(monkeypatch, "resume", "f", "--runs", tmp_path, "--failed", "--json") == 0
    told = status_of(folder)
    none = dict.fromkeys(("over_limit", "pruned", "failed"), 0)
    assert {key: told["counts"][key] for key in (*none, "complete", "trained")} == none | {"complete": 4, "trained": 4}
    assert (told["trials"], told["failed"], told["running"]) == (4, [], [])
    kept = {p.parent.name for p in folder.glob("trials/*/record.failed-1.json")}
    assert kept == failed
    assert all(Record.load(folder / "trials" / name).state == "complete" for name in failed)
    assert len(list(records_in(folder))) == 4
    assert resume(folder, failed=True).counts["complete"] == 4  # nothing is left to be run again
    numbers = [int(find_trial(folder, str(n))[1].recipe in failed) for n in range(6)]
    assert numbers == [1, 1, 0, 0, 1, 1]


def test_failed_trials_that_wait_survive_a_death_of_the_driver(tmp_path):
    folder = made(tmp_path, "d", trials=3, failing=1)
    options = options_of(folder)
    ledger = open_ledger(options)
    assert renew(ledger) == 1
    assert renew(ledger) == 0
    ledger.presence.leave()
    assert ledger.counts() == open_ledger(options).counts()
    later = open_ledger(options)
    later.reconcile()
    (proposal,) = later.orphans()
    assert later.study.trials[proposal.number].user_attrs["instead_of"] == 0
    assert "history" not in later.study.trials[proposal.number].user_attrs
    assert (later.counts()["failed"], later.remaining()) == (0, 0)


# ---------------------------------------------------------------------- damage, links, later versions


def test_a_later_format_is_refused_in_one_sentence(monkeypatch, capsys, tmp_path):
    folder = made(tmp_path, "l", trials=1)
    edited(folder, format=3, code={"version": "9.9"}, options={"new": 1})
    for command in ("status", "resume", "dashboard"):
        assert golflab(monkeypatch, command, "l", "--runs", tmp_path) == 2
        assert "was written by golflab 9.9 in format 3; this one reads up to 2: upgrade golflab" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "null", "\udcff", "[" * 100_000, '{"options": []}', '{"options": {}}', '{"state": 1, "options": {}}'),
        *('{"state": "x", "options": {}, "format": "2"}', '{"state": "x", "options": {"storage": 4}}'),
    ],
)
def test_a_damaged_file_of_an_experiment_is_named(tmp_path, content):
    folder = made(tmp_path, "d", trials=1)
    (folder / "experiment.json").write_text(content, errors="surrogateescape")
    for act in (status_of, resume):
        with pytest.raises(ValueError, match=r"experiment\.json is damaged"):
            act(folder)
    told = {"state": "finished", "options": {"trials": "many"}}
    (folder / "experiment.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="trials='many' must be int"):
        resume(folder)
    (folder / "experiment.json").write_text(json.dumps(told | {"options": {"colour": "red"}}))
    with pytest.raises(ValueError, match="no option 'colour'"):
        resume(folder)


def test_a_lost_or_damaged_journal_is_never_begun_anew(tmp_path):
    folder = made(tmp_path, "j", trials=2)
    journal = folder / "study.journal"
    whole = journal.read_bytes()
    for damage, said in (
        (None, "is missing"),
        (b"", "is empty"),
        (b"\n" + whole, "line 1 is damaged"),
        (whole.replace(b"\n", b"\n\n", 3), "line 2 is damaged"),
        (whole[:40] + b"\n" + whole[40:], "line 1 is damaged"),
        (whole.split(b"\n", 1)[1], "study.journal"),
    ):
        journal.unlink()
        if damage is not None:
            journal.write_bytes(damage)
        for act in (status_of, resume):
            with pytest.raises(ValueError, match="golflab repair j") as error:
                act(folder)
            assert said in str(error.value)
        if damage is None:
            journal.touch()
        assert journal.read_bytes() == (damage or b"")
    journal.write_bytes(whole)
    assert status_of(folder)["counts"]["complete"] == 2


def test_nothing_is_written_through_a_link(monkeypatch, capsys, tmp_path):
    folder, secret = made(tmp_path, "w", trials=2), tmp_path / "secret"
    secret.write_text("mine, without an end")
    (folder / "report.html").symlink_to(secret)
    assert golflab(monkeypatch, "report", "w", "--runs", tmp_path, "--json") == 0
    assert not (folder / "report.html").is_symlink()
    (folder / "tensorboard").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="is a link"):
        write_curves(folder)
    (folder / "tensorboard").unlink()
    log = next(folder.glob("trials/*")) / "log.txt"
    log.symlink_to(secret)
    with pytest.raises(ValueError, match=r"log\.txt is a link"):
        resume(folder)
    log.unlink()
    for name in ("study.journal", "study.journal.lock", "experiment.json"):
        kept = (folder / name).rename(tmp_path / "kept")
        (folder / name).symlink_to(secret)
        with pytest.raises(ValueError, match="link"):
            resume(folder)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        if name != "study.journal.lock":
            with pytest.raises(ValueError, match="no ordinary file"):
                status_of(folder)
        (folder / name).unlink()
        kept.rename(folder / name)
    check_writable(folder)
    assert secret.read_text() == "mine, without an end"


def test_looking_at_an_experiment_changes_nothing(monkeypatch, tmp_path):
    folder = made(tmp_path, "q", trials=2)
    before = snapshot(folder)
    assert golflab(monkeypatch, "status", "q", "--runs", tmp_path, "--json") == 0
    find_trial(folder, "0")
    assert snapshot(folder) == before


def test_code_and_machine_are_kept_and_a_change_is_noted(tmp_path, monkeypatch):
    folder = made(tmp_path, "v", trials=1)
    told = read_experiment(folder)
    assert {"host", "python", "torch"} <= set(told["machine"])
    assert "version" in told["code"]
    assert stat.S_IMODE((folder / "experiment.json").stat().st_mode) & 0o111 == 0
    notes = reopen(options_of(folder))[1]
    assert notes == []
    monkeypatch.setattr("golflab.search.experiment.provenance.code", lambda: {"version": "0", "commit": "abc", "dirty": False})
    own, notes = reopen(options_of(folder))
    assert "commit abc now" in notes[0]
    assert own.continued[-1]["code"]["commit"] == "abc"
    drive(options_of(folder), own, 1)
    assert read_experiment(folder)["continued"][-1]["code"]["commit"] == "abc"
