"""One damaged record costs one line, whatever is wrong with it: it is named, left out and counted, and nothing else suffers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings

import fake_runs
import pytest
from made import made

from golflab.analysis.report.report import report
from golflab.analysis.report.words import summary
from golflab.analysis.table import load
from golflab.model.record import Record, damaged_in_words, load_documents, look_through
from golflab.model.schema import problem
from golflab.search.cli.export import find_trial
from golflab.search.experiment.drive import open_ledger
from golflab.search.experiment.start import options_of
from golflab.search.upkeep.listing import listed
from golflab.search.upkeep.status import status_of

WRONG = {
    "recipe": ["000000000000", "", 7, None, ["a"], "x" * 100],
    "seed": [-1, 1.5, "0", True, None, 1],
    "preset": [7, None, ["baseline"]],
    "state": ["done", "", None, 3, ["complete"], {}],
    "reason": [None, 5, {}],
    "bpb": ["2.0", -1, 0, 1e9, True, [2.0], {}, None, 10**400],
    "bpb_float": ["2.0", -0.1, [1], 1e300],
    "bytes": [-5, 1.5, "many", True, [], None, 10**30],
    "code_bytes": ["0", -1, 0.5],
    "tokenizer_bytes": ["0", -1, 0.5],
    "bytes_forecast": [[], "low", {"low": 1}, {"low": 1, "mid": "2", "high": 3}, 7],
    "parameters": ["1", -1, {}],
    "tokens": ["16384", -1, 0.25, []],
    "seconds": ["0", -1.0, [], True],
    "tokens_per_second": ["0", -1.0],
    "trained": ["yes", 1, None, 0],
    "training": [None, 7],
    "stages": [[], {"train": "long"}, {"train": -1}, None],
    "curve": [{}, [7], [{}], [{"step": "1"}], [{"step": 1, "bpb": "low"}], None, [{"step": 1, "more": {}}]],
    "notes": ["a note", [7], None],
    "machine": [[], {"torch": {}}, None],
    "overlap": [[], None, {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}],
    "finishings": [{}, [7], [{"technique": "x"}], None],
    "trial": [-1, "0", 0.5],
    "started": ["yesterday", 7, "2026-11-26T04:00:00"],
    "proposed": [[], {"source": {}}],
    "spec": [{}, None, [], "baseline", {"limit": 640000}],
}
PARTS = {
    "limit": [10**12, -1, "640000", None, True],
    "techniques": [[], {}, None, {"xsa": None}, {"xsa": {"last": {}}}, {"no_such_technique": {}}],
    "shape": [{}, [], None, {"layers": []}],
    "schedule": [{"tokens": "many"}, None, []],
    "data": [None, {"corpus": {}}],
    "seed": [7, "0"],
    "extra": [1],
}
TEXTS = {
    "empty": b"",
    "blank": b" \n",
    "torn": lambda text: text[:300],
    "no JSON": b"bpb = 2",
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "not a number": lambda text: text.replace(b'"bpb": 2', b'"bpb": NaN, "was": 2', 1),
    "infinite": lambda text: text.replace(b'"bpb": 2', b'"bpb": -Infinity, "was": 2', 1),
    "too large a number": lambda text: text.replace(b'"bpb": 2', b'"bpb": 1e999, "was": 2', 1),
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    "no text": b"\x00\xff\xfe\x80",
    "nested deep": b"[" * 100_000,
    "nested deep and closed": b'{"notes":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "many digits": b'{"seed": ' + b"9" * 5000 + b"}",
    "two records": lambda text: text + text,
}


def edits():
    """Name of an edit, and a function that makes it to a record's path."""

    def value(name, wrong, part=None):
        def edit(path):
            body = json.loads(path.read_text())
            (body if part is None else body[part])[name] = wrong
            path.write_text(json.dumps(body))

        return edit

    def without(name, part=None):
        def edit(path):
            body = json.loads(path.read_text())
            del (body if part is None else body[part])[name]
            path.write_text(json.dumps(body))

        return edit

    def text(content):
        return lambda path: path.write_bytes(content(path.read_bytes()) if callable(content) else content)

    def instead(make):
        def edit(path):
            path.unlink()
            make(path)

        return edit

    for name, wrongs in WRONG.items():
        for k, wrong in enumerate(wrongs):
            yield f"{name} {k}", value(name, wrong)
    for name, wrongs in PARTS.items():
        for k, wrong in enumerate(wrongs):
            yield f"spec.{name} {k}", value(name, wrong, "spec")
    for name in ("recipe", "seed", "preset", "state", "spec", "bpb", "bytes"):
        yield f"no {name}", without(name)
    for name in ("limit", "techniques", "shape", "data"):
        yield f"no spec.{name}", without(name, "spec")
    for name, content in TEXTS.items():
        yield name, text(content)
    yield "a pipe", instead(os.mkfifo)
    yield "a folder", instead(os.mkdir)
    yield "a link out", instead(lambda path: path.symlink_to("/etc/hostname"))
    yield "a link to a device", instead(lambda path: path.symlink_to("/dev/zero"))
    yield "a broken link", instead(lambda path: path.symlink_to("nowhere"))
    yield "huge", lambda path: os.truncate(path, 10**11)  # sparse: it takes no room


EDITS = dict(edits())


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Three finished trials."""
    return made(tmp_path_factory.mktemp("runs"), "e", trials=3)


@contextlib.contextmanager
def spoiled(experiment, edit, which=0):
    """The folder of an experiment with one record edited, which is put back afterwards."""
    place = sorted((experiment / "trials").iterdir())[which]
    path, kept = place / "record.json", (place / "record.json").read_bytes()
    try:
        edit(path)
        yield place.name
    finally:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        path.write_bytes(kept)


def test_there_are_edits_enough():
    assert len(EDITS) >= 60


@pytest.mark.parametrize("name", EDITS)
def test_a_damaged_record_is_named_left_out_and_counted(experiment, name):
    whole = {record.recipe: record for _, record in look_through(experiment / "trials").records}
    with spoiled(experiment, EDITS[name]) as recipe:
        found = look_through(experiment / "trials")
        assert [record for _, record in found.records] == [record for key, record in whole.items() if key != recipe]
        assert len(found.damaged) == 1
        assert found.damaged[0].startswith(f"trials/{recipe}/record.json: ")
        assert len(found.damaged[0]) < 200
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            table = load(experiment)
        assert sorted(table["recipe"]) == sorted(set(whole) - {recipe})
        assert len(table.attrs["damaged"]) == 1
        heard = [str(one.message) for one in said if one.category is UserWarning]
        assert len(heard) == 1
        assert f"1 record is damaged and left out: trials/{recipe}/record.json: " in heard[0]
        assert Record.read(experiment / "trials" / recipe) is None


# What reads more than the records: an edit of every kind is enough, for all read through `look_through`, which sees all edits.
FEW = ["bpb 0", "spec 0", "state 3", "a pipe", "a folder", "nested deep", "torn", "no spec.limit", "machine 1"]
MORE = ["bpb 1", "bpb 3", "spec 2", "not a number", "a link to a device", "recipe 0", "spec.limit 0", "curve 4"]


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(name, marks=pytest.mark.full) for name in MORE)])
def test_every_reader_goes_on_without_it(experiment, name):
    with spoiled(experiment, EDITS[name]) as recipe:
        rest = sorted(p.name for p in (experiment / "trials").iterdir() if p.name != recipe)
        told = status_of(experiment)
        assert told["best"]["recipe"] in rest
        assert len(told["damaged"]) == 1
        done = report(experiment)
        assert len(done.table) == 2
        assert any("1 record is damaged" in line for line in summary(done))
        heard = []
        assert find_trial(experiment, "best", heard.append)[1].recipe in rest
        assert "1 record is damaged" in heard[0]
        with pytest.raises(ValueError, match="its record is damaged"):
            find_trial(experiment, recipe)
        (listing,) = listed(experiment.parent)
        assert (listing.done, listing.damaged) == (2, 1)


def test_resume_makes_it_again_and_nothing_else(tmp_path):
    """Every kind of thing that can lie in its place, one after another."""
    folder = made(tmp_path, "r", trials=2)
    for name in ("bpb 0", "spec 0", "a pipe", "a folder", "torn", "a folder", "recipe 0"):
        place = sorted((folder / "trials").iterdir())[0]
        EDITS[name](place / "record.json")
        book = open_ledger(options_of("r", tmp_path, trust=True))
        assert book.reconcile() == 0
        assert book.orphans() == []
        assert book.has_orphans()
        (again,) = book.damaged()
        assert (again.recipe.hash, book.propose()) == (place.name, None)
        book.finish(again.number, fake_runs.run(again.recipe, place, tmp_path / "cache"))
        assert not book.has_orphans()
        assert Record.load(place).trial == again.number
        book.presence.leave()
    assert len(look_through(folder / "trials").records) == 2
    assert status_of(folder)["counts"]["complete"] == 2


def test_a_damaged_record_of_no_trial_does_not_keep_a_search_from_ending(tmp_path):
    folder = made(tmp_path, "s", trials=2)
    (folder / "trials" / "stray").mkdir()
    (folder / "trials" / "stray" / "record.json").write_text("{}")
    book = open_ledger(options_of("s", tmp_path, trust=True))
    assert not book.has_orphans()
    book.presence.leave()
    assert status_of(folder)["damaged"] == ["trials/stray/record.json: recipe is missing"]


def test_records_of_earlier_versions_stay_readable(experiment):
    place = sorted((experiment / "trials").iterdir())[0]
    body = json.loads((place / "record.json").read_text())
    later = (
        "trial",
        "started",
        "ended",
        "proposed",
        "finishings",
        "overlap",
        "machine",
        "notes",
        "stages",
        "training",
        "trained",
    )
    old = {key: value for key, value in body.items() if key not in later}
    assert problem(old, place.name) == ""
    assert problem(body | {"of a later version": [{}]}, place.name) == ""
    assert problem(body | {"bytes": float(body["bytes"])}, place.name) == ""
    assert problem({"recipe": "mine", "seed": 0, "preset": "p", "state": "failed", "spec": {"name": "made up"}}, "mine") == ""
    with spoiled(experiment, lambda path: path.write_bytes(b"\xef\xbb\xbf" + json.dumps(old | {"bytes": 5e5}).encode())):
        record = Record.load(place)  # an editor has put a byte order mark before it
        assert (record.trial, record.bytes) == (None, 500_000)
        assert isinstance(record.bytes, int)
        assert len(load(experiment)) == 3


def test_an_unreadable_record_is_damaged_too(experiment, monkeypatch):
    """As root nothing is unreadable, so the system call fails here."""
    place = sorted((experiment / "trials").iterdir())[0]
    honest = os.open

    def refusing(path, *rest, **more):
        if str(path).startswith(str(place)):
            raise PermissionError(13, os.strerror(13), str(path))
        return honest(path, *rest, **more)

    monkeypatch.setattr(os, "open", refusing)
    found = look_through(experiment / "trials")
    assert found.damaged == [f"trials/{place.name}/record.json: it cannot be opened: Permission denied"]


def test_a_trial_that_is_a_link_is_not_followed(experiment, tmp_path):
    shutil.copytree(experiment, tmp_path / "e")
    place = sorted((tmp_path / "e" / "trials").iterdir())[0]
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    found = look_through(tmp_path / "e" / "trials")
    assert (len(found.records), found.damaged) == (2, [f"trials/{place.name}: it is a link, which is not followed"])


def test_damaged_lines_of_a_file_of_records(experiment, tmp_path):
    lines = [(p / "record.json").read_text() for p in sorted((experiment / "trials").iterdir())]
    worse = json.dumps(json.loads(lines[1]) | {"bpb": "2.0"})
    (tmp_path / "all.jsonl").write_text("\n".join([lines[0], "{", worse, "[]", "", lines[2]]))
    with pytest.warns(UserWarning, match="3 records are damaged and left out: all.jsonl, line 2: no JSON"):
        table = load(tmp_path / "all.jsonl")
    assert len(table) == 2
    assert "line 3: bpb is '2.0', a number" in damaged_in_words(table.attrs["damaged"])


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"state": 7, "options": {}}', b'{"options": []}', b"\xff", b"[" * 9999]
)
def test_a_damaged_experiment_file_is_named_in_one_sentence(experiment, tmp_path, content):
    shutil.copytree(experiment, tmp_path / "e")
    (tmp_path / "e" / "experiment.json").write_bytes(content)
    for read in (status_of, lambda folder: options_of("e", tmp_path)):
        with pytest.raises(ValueError, match=r"e/experiment\.json is damaged"):
            read(tmp_path / "e")
    if content != b"{}" and b"options" not in content:
        with pytest.raises(ValueError, match=r"e/experiment\.json is damaged"):
            load(tmp_path / "e")
        assert len(load(tmp_path / "e" / "trials")) == 3
    (listing,) = listed(tmp_path)
    assert (listing.state, listing.done) == ("damaged", 3)


def test_a_record_that_is_written_can_be_read(tmp_path):
    """Scores that could not be read back are failures, so that no finished run is made again for ever."""
    from unittest import mock

    from golflab.model.job import finishing
    from golflab.model.job.finishing import StageFailed

    job = mock.Mock(later={"evaluate": "key"})
    job.timed.return_value = contextlib.nullcontext()
    job.cache.read.return_value = None
    for score in (0.0, -1.0, float("nan"), float("inf"), 1e7):
        with (
            mock.patch.object(finishing, "evaluate", return_value=mock.Mock(bpb=score)),
            mock.patch.object(finishing, "scored_model"),
            mock.patch.object(finishing, "scoring_part"),
            pytest.raises(StageFailed, match="bits per byte"),
        ):
            finishing._score(job, {}, "evaluate")


def test_damaged_documents_are_named(tmp_path):
    (tmp_path / "documents.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match=r"documents\.npz is damaged"):
        load_documents(tmp_path)
