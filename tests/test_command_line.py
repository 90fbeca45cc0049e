"""The real command line: an experiment that is copied, renamed, moved and damaged goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from golflab.search.ledger.storage import JOURNAL
from tests.made import made
from tests.test_cli import golflab as called

ROOT = Path(__file__).parent.parent


@pytest.fixture
def golflab(tmp_path, monkeypatch, capfd):
    """Run ``golflab WORDS`` in the folder that holds ``runs/``; what it printed, as JSON where that was asked for.

    The search itself, and the first word, have a process of their own. The others are run in this one, because each process
    imports for seconds.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])}

    def run(*words, code=0, apart=False):
        if not apart:
            monkeypatch.chdir(tmp_path)
            capfd.readouterr()
            assert called(monkeypatch, *words) == code
            told = capfd.readouterr()
            assert "Traceback" not in told.err
            return json.loads(told.out) if "--json" in words else told.out + told.err
        consent = ["--trust"] if words[0] == "resume" else []  # the runs are instant ones of the tests
        command = [sys.executable, "-m", "golflab", *map(str, words), *consent]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stderr[-3000:]
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout + done.stderr

    return run


def records(folder):
    return {path.parent.name: path.read_bytes() for path in folder.glob("trials/*/record.json")}


def test_what_is_copied_renamed_moved_and_damaged_goes_on(golflab, tmp_path):
    first = made(tmp_path / "runs", "first", trials=3, left=1)
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    golflab("copy", "first", "copied", apart=True)
    golflab("rename", "copied", "mine")
    elsewhere = tmp_path / "elsewhere" / "mine"
    elsewhere.parent.mkdir()
    shutil.move(tmp_path / "runs" / "mine", elsewhere)

    kept = records(elsewhere)
    spoilt, *others = sorted(kept)
    (elsewhere / "trials" / spoilt / "record.json").write_text('{"bpb": "2.0"')
    with (elsewhere / JOURNAL).open("r+b") as journal:
        journal.truncate(journal.seek(0, os.SEEK_END) // 2)
        journal.seek(0, os.SEEK_END)
        journal.write(b"\x00 not a line of a journal\n")
    assert "golflab repair" in golflab("resume", elsewhere, code=2)
    golflab("repair", elsewhere)  # a path will do instead of a name
    golflab("resume", elsewhere, "--trials", "4", apart=True)
    found = golflab("status", elsewhere, "--json")
    assert (found["state"], found["name"], found["counts"]["complete"]) == ("finished", "mine", 4)
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before
    now = records(elsewhere)
    assert {name: now[name] for name in others} == {name: kept[name] for name in others}
    assert json.loads(now[spoilt])["bpb"] == json.loads(kept[spoilt])["bpb"]

    golflab("delete", "first", "--yes")
    assert golflab("list", "--json") == []
    assert elsewhere.is_dir()
