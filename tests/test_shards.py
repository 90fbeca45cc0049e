"""The challenge's shard format, and many shards read as one stream."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golflab.model.data import shards
from golflab.model.data.shards import HEADER_BYTES, Stream, read_shard, split_documents, stage, write_shard


def test_a_shard_is_byte_for_byte_what_the_challenge_says(tmp_path):
    path = tmp_path / "x.bin"
    assert write_shard(path, [np.array([1, 500]), np.array([65535])]) == 3
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, 1, 3
    assert path.read_bytes() == header.tobytes() + np.array([1, 500, 65535], dtype="<u2").tobytes()
    assert read_shard(path).tolist() == [1, 500, 65535]
    assert isinstance(read_shard(path), np.memmap)


def damaged(path, kind):
    write_shard(path, [np.arange(100)])
    content = bytearray(path.read_bytes())
    if kind == "magic":
        content[0] ^= 1
    elif kind == "version":
        content[4] = 2
    elif kind == "short":
        content = content[:-2]
    elif kind == "long":
        content += b"xx"
    elif kind == "foreign":
        content = bytearray(b"hello")
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("magic", "not a token shard"),
        ("version", "version 2"),
        ("short", "header promises"),
        ("long", "header promises"),
        ("foreign", "not a token shard"),
    ],
)
def test_damaged_and_foreign_files_are_refused(tmp_path, kind, words):
    damaged(tmp_path / "x.bin", kind)
    with pytest.raises(ValueError, match=words):
        read_shard(tmp_path / "x.bin")


def test_an_empty_shard_is_a_shard(tmp_path):
    write_shard(tmp_path / "x.bin", [])
    assert len(read_shard(tmp_path / "x.bin")) == 0
    assert (tmp_path / "x.bin").stat().st_size == HEADER_BYTES


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(sum), st.integers(0, 100), st.integers(1, 60))
def test_a_stream_reads_like_its_parts_repeated(sizes, start, count):
    whole = np.arange(sum(sizes), dtype=np.uint16)
    stream = Stream(np.split(whole, np.cumsum(sizes)[:-1]))
    expected = np.resize(np.roll(whole, -(start % len(whole))), count)
    assert stream.take(start, count).tolist() == expected.tolist()


@pytest.fixture
def copies(monkeypatch):
    """The copies that were really made."""
    made, original = [], shards.shutil.copyfile
    monkeypatch.setattr(shards.shutil, "copyfile", lambda old, new: made.append(old) or original(old, new))
    return made


def test_a_shard_is_copied_to_the_local_disk_once_however_many_ask(tmp_path, copies):
    path, local = tmp_path / "shared.bin", tmp_path / "local"
    write_shard(path, [np.arange(1000)])
    with ThreadPoolExecutor(8) as pool:
        staged = set(pool.map(lambda _: stage(path, local), range(16)))
    assert copies == [path]
    (copy,) = staged
    assert copy.parent == local
    assert copy.read_bytes() == path.read_bytes()
    assert stage(path, None) == path


def test_a_copy_is_made_again_where_it_is_cut_off_or_the_shard_has_changed(tmp_path, copies):
    path, local = tmp_path / "shared.bin", tmp_path / "local"
    write_shard(path, [np.arange(1000)])
    copy = stage(path, local)
    os.truncate(copy, 100)
    assert read_shard(stage(path, local)).tolist() == list(range(1000))
    write_shard(path, [np.arange(2000)])
    assert len(read_shard(stage(path, local))) == 2000
    assert len(copies) == 3


def test_a_local_disk_without_room_is_done_without(tmp_path, monkeypatch):
    path, local = tmp_path / "shared.bin", tmp_path / "local"
    write_shard(path, [np.arange(1000)])

    def full(old, new):
        new.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(shards.shutil, "copyfile", full)
    assert stage(path, local) == path
    assert not [p for p in local.iterdir() if p.suffix != ".lock"]


def test_a_stream_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no tokens"):
        Stream([np.zeros(0, np.uint16)])


def test_where_counts_across_shards():
    assert Stream([np.array([1, 2, 1]), np.array([3, 1])]).where(1).tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("tokens", "documents"),
    [([1, 5, 1, 6, 7], [[1, 5], [1, 6, 7]]), ([9, 1, 5], [[9], [1, 5]]), ([], []), ([1, 1], [[1], [1]])],
)
def test_documents_begin_at_bos(tokens, documents):
    assert [d.tolist() for d in split_documents(np.array(tokens), 1)] == documents
