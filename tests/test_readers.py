"""Files of text: every kind of line end, packing and damage, in bounded memory, with file and line in every error."""

from __future__ import annotations

import gzip
import os
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from golflab.model.data import readers
from golflab.model.data.readers import lines

TEXT = "".join(f'{{"text": "line {i} of some text"}}\n' for i in range(4000))


def zst(*texts):
    return b"".join(zstandard.compress(text.encode()) for text in texts)


def read(path):
    return "".join(line for _, line in lines(path))


@given(st.lists(st.sampled_from(["a", "é", "\n", "\r", "\r\n", "日"]), max_size=30).map("".join), st.integers(1, 5))
def test_line_ends_are_one_wherever_blocks_are_cut(tmp_path_factory, text, block):
    path = tmp_path_factory.mktemp("ends") / "a.txt"
    path.write_bytes(text.encode())
    usual, readers.BLOCK = readers.BLOCK, block
    try:
        found = list(lines(path))
    finally:
        readers.BLOCK = usual
    whole = text.replace("\r\n", "\n").replace("\r", "\n")
    assert [line for _, line in found] == whole.splitlines(keepends=True)
    assert [number for number, _ in found] == list(range(1, len(found) + 1))


def test_many_frames_are_one_text(tmp_path):
    (tmp_path / "a.jsonl.zst").write_bytes(zst(TEXT[:50_000], TEXT[50_000:]))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(TEXT[:50_000].encode()) + gzip.compress(TEXT[50_000:].encode()))
    assert read(tmp_path / "a.jsonl.zst") == read(tmp_path / "a.jsonl.gz") == TEXT


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
@pytest.mark.parametrize("packing", [".zst", ".gz"])
def test_a_file_that_was_cut_short_is_refused(tmp_path, packing, share):
    pack = zstandard.compress if packing == ".zst" else gzip.compress
    parts = [pack(TEXT[start : start + 40_000].encode()) for start in range(0, len(TEXT), 40_000)]
    whole = b"".join(parts)
    path = tmp_path / f"a.jsonl{packing}"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"a\.jsonl.*cut short"):
        read(path)


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.txt.gz"])
def test_what_is_not_compressed_though_its_name_says_so_is_refused(tmp_path, name):
    (tmp_path / name).write_text(TEXT)
    with pytest.raises(ValueError, match=rf"{name}: no \.\w+ file, or damaged"):
        read(tmp_path / name)


def test_a_bomb_is_refused_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "LONGEST", 1 << 20)
    (tmp_path / "line.jsonl.zst").write_bytes(zstandard.compress(bytes(b"a" * (1 << 27))))
    (tmp_path / "lines.jsonl.zst").write_bytes(zstandard.compress(bytes(b"a\n" * (1 << 26))))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"line\.jsonl\.zst.*(longer than|1,000 times)"):
        read(tmp_path / "line.jsonl.zst")
    with pytest.raises(ValueError, match=r"lines\.jsonl\.zst: expands to more than 1,000 times"):
        read(tmp_path / "lines.jsonl.zst")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 << 20


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "LONGEST", 1 << 16)
    (tmp_path / "a.txt").write_bytes(b"first\n" + b"x" * (1 << 21))
    with pytest.raises(ValueError, match=r"a\.txt, line 2: longer than 65,536 bytes"):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_named(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("plain words\n".encode(encoding))
    with pytest.raises(ValueError, match=r"a\.txt, line 1: UTF-16 or UTF-32"):
        read(tmp_path / "a.txt")


def test_a_byte_order_mark_is_no_text_and_bad_bytes_have_a_line(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\ntwo\n")
    assert read(tmp_path / "a.txt") == "one\ntwo\n"
    (tmp_path / "b.txt").write_bytes(b"one\ncaf\xe9 two\n")
    with pytest.raises(ValueError, match=r"b\.txt, line 2: not UTF-8 text \(.*byte 3"):
        read(tmp_path / "b.txt")


def test_devices_pipes_and_dead_links_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    (tmp_path / "dead.txt").symlink_to(tmp_path / "nowhere")
    for name, words in {"pipe": "no ordinary file", "zero": "no ordinary file", "dead": "cannot be read"}.items():
        with pytest.raises(ValueError, match=rf"{name}\.txt.*{words}"):
            read(tmp_path / f"{name}.txt")


def test_an_empty_file_has_no_lines(tmp_path):
    for name in ("a.txt", "a.jsonl.zst", "a.txt.gz"):
        (tmp_path / name).write_bytes(b"")
        assert list(lines(tmp_path / name)) == []
