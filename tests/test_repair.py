"""Repair: whatever happens to a journal, its experiment is built again from the records, and nothing finished runs again."""

from __future__ import annotations

import json
import shutil
import sys
import warnings

import pytest
from made import made
from optuna.trial import TrialState

from golflab.model.record import look_through
from golflab.search.cli import main as cli
from golflab.search.experiment.drive import open_ledger
from golflab.search.experiment.start import options_of
from golflab.search.ledger.drivers import Presence
from golflab.search.ledger.storage import JOURNAL
from golflab.search.upkeep.repair import rebuild
from golflab.search.upkeep.status import opened, status_of


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """An experiment with five trials that ended (one failed), one that runs, and one that somebody enqueued."""
    folder = made(tmp_path_factory.mktemp("kept"), "e", trials=8, failing=1, left=3)
    book = open_ledger(options_of("e", folder.parent, trust=True))
    assert book.propose() is not None
    book.enqueue(book.problem.recipes.params(book.problem.recipes.preset) | {"xsa": True})
    book.presence.leave()
    return folder


@pytest.fixture
def folder(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "e")


def trials(folder):
    return opened(folder, trust=True)[1].get_trials()


def told(trial):
    """What a trial is, but for what only the journal knows."""
    names = ("recipe", "asked", "not_fitting", "source", "trained", "seconds", "reason")
    facts = {name: trial.user_attrs[name] for name in names if trial.user_attrs.get(name) is not None}
    return trial.number, trial.state, trial.value, trial.params, trial.intermediate_values, trial.constraints, facts


def golflab(monkeypatch, capsys, *words):
    """Exit code, output and errors of the command line."""
    monkeypatch.setattr(sys, "argv", ["golflab", *map(str, words)])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code or 0
    return code, *capsys.readouterr()


def lines_of(folder):
    return (folder / JOURNAL).read_bytes().splitlines(keepends=True)


def blank(lines):
    return [*lines[:7], b"\n", *lines[7:]]


def torn(lines):
    at = next(k for k, line in enumerate(lines) if k > 5 and line.startswith(b'{"op_code":8'))
    return [*lines[:at], lines[at][:30] + lines[at + 1], *lines[at + 2 :]]


def torn_beginning(lines):
    at = [k for k, line in enumerate(lines) if line.startswith(b'{"op_code":4')][2]
    return [*lines[:at], lines[at][:60] + b"\n", *lines[at + 1 :]]


def rubbish(lines):
    at = [k for k, line in enumerate(lines) if line.startswith(b'{"op_code":4')][2]
    return [*lines[:at], b"\xff\x00 no journal at all\n", *lines[at + 1 :]]


def foreign(lines):
    return [*lines[:5], b'{"op_code": 77, "worker_id": "x"}\n', b"[]\n", b"{}\n", *lines[5:]]


DAMAGE = {
    "a blank line": blank,
    "a torn line with a good one behind it": torn,
    "the beginning of a trial is torn": torn_beginning,
    "the beginning of a trial is rubbish": rubbish,
    "an empty first line": lambda lines: [b"\n", *lines[1:]],
    "no first line": lambda lines: lines[1:],
    "lines of something else": foreign,
    "nothing": lambda lines: [],
    "rubbish from the middle on": lambda lines: [*lines[: len(lines) // 2], b"\x00" * 500 + b"\n"],
    "a last line of rubbish": lambda lines: [*lines, b"rubbish\n"],
    "a blank last line": lambda lines: [*lines, b"\n"],
}
# Of these every trial is known again as it was.
KNOWN = ["a blank line", "an empty first line", "no first line", "lines of something else", "a last line of rubbish"]
KNOWN += ["a blank last line"]


@pytest.mark.parametrize("name", [*DAMAGE, "missing"])
def test_whatever_happened_to_the_journal_its_trials_are_there_again(folder, name, monkeypatch, capsys):
    before = [told(trial) for trial in trials(folder)]
    records = look_through(folder / "trials").records
    if name == "missing":
        (folder / JOURNAL).unlink()
    else:
        (folder / JOURNAL).write_bytes(b"".join(DAMAGE[name](lines_of(folder))))
    for command in (["status", "e"], ["resume", "e", "--trust"]):
        code, out, err = golflab(monkeypatch, capsys, *command, "--runs", folder.parent)
        assert (code, out) == (2, ""), err
        assert f"e/{JOURNAL}" in err.replace("\n", "")
        assert "golflab repair e" in err
        assert "Traceback" not in err
    code, out, err = golflab(monkeypatch, capsys, "repair", "e", "--runs", folder.parent)
    assert (code, err) == (0, "")
    assert "was rebuilt: 4 complete, 1 failed, 1 running" in out, out
    after = [told(trial) for trial in trials(folder)]
    assert [row[:4] for row in after[:5]] == [row[:4] for row in before[:5]]  # numbers, states, values, parameters
    assert [row[5:] for row in after[:5]] == [row[5:] for row in before[:5]]  # constraints and attributes
    if name in KNOWN:
        assert after == before
    assert [record for _, record in look_through(folder / "trials").records] == [record for _, record in records]
    kept = [path.name for path in folder.glob(f"{JOURNAL}.damaged-*")]
    assert kept == ([] if name in ("missing", "nothing") else [f"{JOURNAL}.damaged-1"])
    assert status_of(folder, trust=True)["counts"]["complete"] == 4
    goes_on(folder, {row[6]["recipe"] for row in before[:5]})


def goes_on(folder, ended):
    """A resume: what ended is asked for no more, what was running goes on, and all that was wanted is done."""
    import fake_runs

    book = open_ledger(options_of("e", folder.parent, trust=True))
    assert book.reconcile() == 0
    assert book.damaged() == []
    running, waiting = book.orphans(), []
    while (proposal := running.pop() if running else book.propose()) is not None:
        assert proposal.recipe.hash not in ended
        waiting.append(proposal.number)
        place = book.trial_folder(proposal.recipe.hash)
        book.finish(proposal.number, fake_runs.run(proposal.recipe, place, folder.parent / "cache"))
    assert book.remaining() == 0
    assert not book.has_orphans()
    assert book.counts()["complete"] + book.counts()["failed"] == 8
    assert len(waiting) == 3
    book.presence.leave()


def test_a_study_that_is_whole_is_left_alone(folder, monkeypatch, capsys):
    before = (folder / JOURNAL).read_bytes()
    code, out, _ = golflab(monkeypatch, capsys, "repair", "e", "--runs", folder.parent, "--json")
    assert code == 0
    body = json.loads(out)
    assert (body["repaired"], body["kept"]) == (False, None)
    assert (folder / JOURNAL).read_bytes() == before
    assert not list(folder.glob("*damaged*"))


def test_a_damaged_record_among_them_is_made_again(folder):
    place = folder / "trials" / trials(folder)[3].user_attrs["recipe"]
    (place / "record.json").write_text('{"bpb": "2.0"}')
    (folder / JOURNAL).unlink()
    done = rebuild(folder, trust=True)
    assert done.damaged == [f"trials/{place.name}/record.json: recipe is missing"]
    assert "1 damaged record was left out, and its trial will be run again" in " ".join(done.sentences())
    after = trials(folder)
    assert [t.user_attrs.get("recipe") for t in after].count(place.name) == 1
    found = next(t for t in after if t.user_attrs.get("recipe") == place.name)
    assert found.state == TrialState.RUNNING
    assert (found.number, done.lost) == (3, [])


def test_records_of_an_earlier_version_have_no_number_and_are_taken_in_the_order_of_their_times(folder):
    for path in folder.glob("trials/*/record.json"):
        body = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in body.items() if k not in ("trial", "started", "ended", "proposed")}))
    (folder / JOURNAL).write_bytes(b"")
    rebuild(folder, trust=True)
    after = trials(folder)
    assert sum(t.state == TrialState.COMPLETE for t in after) == 4
    assert {t.user_attrs["recipe"] for t in after[:5]} == {p.parent.name for p in folder.glob("trials/*/record.json")}


def test_a_running_experiment_is_not_repaired(folder, monkeypatch, capsys):
    presence = Presence(folder)
    try:
        code, _, err = golflab(monkeypatch, capsys, "repair", "e", "--runs", folder.parent)
    finally:
        presence.leave()
    assert code == 2
    assert "is running; stop it first" in err


def test_two_repairs_keep_both_journals(folder):
    for number in (1, 2):
        (folder / JOURNAL).write_bytes(b"".join(blank(lines_of(folder))))
        assert rebuild(folder, trust=True).kept == folder / f"{JOURNAL}.damaged-{number}"
    assert not list(folder.glob(".journal.*"))


def test_an_ablation_is_repaired_too(tmp_path):
    from golflab.spaces.presets import preset

    base = preset("baseline").with_(limit=640_000)
    plan = [base, *(base.without(name) for name in ("unet_skips", "softcap", "resid_mix"))]
    folder = made(tmp_path, "e", trials=4, left=1, plan=plan, design="leave-one-out")
    before = [told(trial) for trial in trials(folder)]
    (folder / JOURNAL).unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rebuild(folder, trust=True)
    assert [row[:4] + row[5:] for row in map(told, trials(folder))] == [row[:4] + row[5:] for row in before]
    book = open_ledger(options_of("e", tmp_path, trust=True))
    assert [p.hash for p in plan if p.hash not in {row[6]["recipe"] for row in before}] == [book.propose().recipe.hash]
    book.presence.leave()


def test_a_study_in_a_database_that_is_empty_is_filled(folder):
    address = f"sqlite:///{folder}/study.db"
    path = folder / "experiment.json"
    body = json.loads(path.read_text())
    body["options"]["storage"] = address
    path.write_text(json.dumps(body))
    done = rebuild(folder, storage=address, trust=True)
    assert (done.needed, done.trials["complete"], done.trials["failed"]) == (True, 4, 1)
    assert not rebuild(folder, storage=address, trust=True).needed


def test_a_journal_that_lacks_the_line_of_a_trial_is_noticed_by_a_resume(folder, monkeypatch, capsys):
    """Everything behind it would speak of other trials."""
    before = [told(trial) for trial in trials(folder)]
    lines = lines_of(folder)
    del lines[[k for k, line in enumerate(lines) if line.startswith(b'{"op_code":4')][1]]
    (folder / JOURNAL).write_bytes(b"".join(lines))
    code, _, err = golflab(monkeypatch, capsys, "resume", "e", "--trust", "--cpus", 1, "--runs", folder.parent)
    assert code == 2
    assert "is missing: 1 trial with a record" in err
    assert "golflab repair e" in err
    assert golflab(monkeypatch, capsys, "repair", "e", "--runs", folder.parent)[0] == 0
    assert [row[:4] for row in map(told, trials(folder))][:6] == [row[:4] for row in before][:6]
    goes_on(folder, {row[6]["recipe"] for row in before[:5]})
