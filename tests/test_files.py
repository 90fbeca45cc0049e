"""Files that are whole or not there."""

from __future__ import annotations

import os
import time

from golflab.model.system import files
from golflab.model.system.files import atomic, write_atomic
from golflab.search.cli.clean import clean


def test_two_machines_that_share_a_folder_never_write_under_the_same_name(tmp_path, monkeypatch):
    """In containers every process has the same number, so two of them write one file at a time under names of their own."""
    target, seen, honest = tmp_path / "x", [], os.replace

    def replace(temporary, path):
        seen.append(temporary)
        if len(seen) == 1:
            write_atomic(target, b"the other's")
        assert temporary.exists()
        honest(temporary, path)

    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(files.os, "replace", replace)
    write_atomic(target, b"mine")
    assert len(set(seen)) == 2
    assert target.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_a_killed_writer_leaves_behind_is_found_by_clean(tmp_path):
    folder = tmp_path / "cache" / "train"
    folder.mkdir(parents=True)

    writer = atomic(folder / "0123456789ab.stage")  # never closed, as where the process is killed
    writer.__enter__().write(b"half")
    (left,) = folder.iterdir()
    clean(tmp_path, 0.0)
    assert left.exists()  # somebody may still be writing it
    os.utime(left, (time.time() - 7200,) * 2)
    clean(tmp_path, 0.0)
    assert not left.exists()
