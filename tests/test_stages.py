"""The stage cache: what shares a key, what does not, and what a damaged file does."""

from __future__ import annotations

import multiprocessing
import time

import pytest
import torch

from model.stages import Cache, read_tensors, stage_keys, write_tensors
from model.technique import parse
from tests.contract_helpers import BASE


def keys(recipe, fingerprint="f", dtype=torch.float32):
    return stage_keys(recipe, fingerprint, dtype, [])


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda r: r.with_(parse("zlib_codec")), ("train", "float")),
        (lambda r: r.with_(parse("int6_rows")), ("train", "float")),
        (lambda r: r.with_(parse("sd_clip")), ("train", "float")),
        (lambda r: r.with_(parse("ema")), ("train",)),
        (lambda r: r.with_(parse("sliding_window:stride=8")), ("train", "pack")),
        (lambda r: r.with_(split="test"), ("train", "pack")),
        (lambda r: r.with_(name="other", limit=5), ("train", "pack", "evaluate", "float")),
        (lambda r: r.with_(seed=1), ()),
        (lambda r: r.with_(parse("smear_gate")), ()),
        (lambda r: r.with_(parse("muon:lr=0.01")), ()),
        (lambda r: r.with_(parse("sequential:start=zero")), ()),
        (lambda r: r.with_(tokens=4096), ()),
    ],
)
def test_what_shares_what(change, same):
    a, b = keys(BASE), keys(change(BASE))
    assert {stage for stage in a if a[stage] == b[stage]} == set(same)


def test_data_and_precision_are_part_of_every_key():
    for other in (keys(BASE, fingerprint="g"), keys(BASE, dtype=torch.bfloat16)):
        assert not set(keys(BASE).values()) & set(other.values())


def test_training_that_reads_the_export_grid_depends_on_it():
    qat = BASE.with_(parse("ste_qat"))
    assert keys(qat)["train"] != keys(qat.with_(parse("int6_rows")))["train"]
    assert keys(qat)["train"] == keys(qat.with_(parse("zlib_codec")))["train"]


def test_the_limit_matters_where_something_trims_to_it():
    trimmed = BASE.with_(parse("selective_prune"))
    assert keys(trimmed)["pack"] != keys(trimmed.with_(limit=9))["pack"]
    assert keys(trimmed)["train"] == keys(trimmed.with_(limit=9))["train"]


def test_changed_code_changes_the_key(monkeypatch):
    from model import stages

    before = keys(BASE)
    original = stages._source
    monkeypatch.setattr(stages, "_source", lambda name: original(name) + (b"#" if name == "model.optimize" else b""))
    after = keys(BASE)
    assert before["train"] != after["train"]


def test_tensors_come_back_as_they_were(tmp_path):
    tensors = {"a": torch.randn(3, 4).bfloat16(), "b": torch.arange(3), "c": torch.tensor(2.5)}
    write_tensors(tmp_path / "deep" / "x", tensors, {"told": [1, "é"]})
    back, told = read_tensors(tmp_path / "deep" / "x")
    assert told == {"told": [1, "é"]}
    assert all(torch.equal(back[k], tensors[k]) and back[k].dtype == tensors[k].dtype for k in tensors)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["x"]


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[:-1], lambda c: c[:40], lambda c: b"", lambda c: c[:50] + b"\0" + c[51:], lambda c: b"x" * 99],
)
def test_a_damaged_file_is_missing(tmp_path, damage):
    path = tmp_path / "x"
    write_tensors(path, {"a": torch.randn(30)}, {})
    path.write_bytes(damage(path.read_bytes()))
    assert read_tensors(path) is None
    assert read_tensors(tmp_path / "none") is None


def _hold(folder, seconds):
    with Cache(folder).lock("train", "k"):
        (folder / "held").touch()
        time.sleep(seconds)
        (folder / "done").touch()


def test_a_lock_waits_for_the_other_process(tmp_path):
    tmp_path.joinpath("train").mkdir()
    other = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path, 0.5))
    other.start()
    while not (tmp_path / "held").exists():
        assert other.is_alive()
        time.sleep(0.01)
    with Cache(tmp_path).lock("train", "k"):
        assert (tmp_path / "done").exists()
    other.join()
