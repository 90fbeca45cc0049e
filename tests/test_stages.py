"""The stage cache: what shares a key, what does not, and what a damaged file does."""

from __future__ import annotations

import dataclasses
import fcntl
import multiprocessing
import os
import time
from types import SimpleNamespace

import pytest
import torch

from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.recipe import Recipe
from golflab.model.slots import SLOTS
from golflab.model.stages import Cache, finishing_part, later_keys, scoring_part, train_key, trained_key, training_part
from golflab.model.system import sources
from golflab.model.system.machine import Conditions
from golflab.model.system.sources import ROOT, closure, code_hash, path_of, source
from golflab.model.system.tensors import read_tensors, write_tensors
from golflab.model.technique import catalogue, parse
from golflab.model.training.loop import _watchers
from golflab.model.training.optimizers import Optimizers
from golflab.model.training.result import kept_averages
from tests.contract_helpers import BASE, default, of_stage, recipe_with

ALL = {"train", "pack", "evaluate", "float"}
TECHNIQUES = tuple(cls.__module__ for cls in catalogue().values())


HERE = Conditions("cpu", "float32", pace="a slow one")


def keys(recipe, fingerprint="f", conditions=HERE, read=source):
    """The key of every stage of a recipe whose training is not bounded by seconds."""
    key = train_key(recipe, fingerprint, conditions, read)
    return {"train": key} | later_keys(recipe, key, conditions, read)


def different(a, b):
    return {stage for stage in a if a[stage] != b[stage]}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda r: r.with_(parse("zstd_codec")), ("train", "float")),
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


def test_the_text_is_part_of_every_key():
    assert different(keys(BASE), keys(BASE, "g")) == ALL


@pytest.mark.parametrize(
    ("change", "seconds", "changed"),
    [
        ({"dtype": "bfloat16"}, None, ALL),
        ({"device": "cuda"}, None, ALL),
        ({"processes": 8}, None, ALL),
        ({"compiled": True}, None, ALL),
        ({"pace": "a fast one"}, None, set()),
        ({"pace": "a fast one"}, 2.0, ALL),
        ({"processes": 8}, 2.0, ALL),
    ],
)
def test_conditions_are_part_of_the_keys_of_what_depends_on_them(change, seconds, changed):
    recipe = BASE.with_(seconds=seconds)
    assert different(keys(recipe), keys(recipe, conditions=dataclasses.replace(HERE, **change))) == changed


def test_what_comes_after_a_training_bounded_by_seconds_belongs_to_that_very_training():
    first, second = (later_keys(BASE, trained_key("k", {"own": own}), HERE) for own in ("a", "b"))
    assert different(first, second) == {"pack", "evaluate", "float"}
    assert trained_key("k", {"own": ""}) == trained_key("k", {}) == "k"


def test_training_that_reads_the_export_grid_depends_on_it():
    qat = BASE.with_(parse("ste_qat"))
    assert keys(qat)["train"] != keys(qat.with_(parse("int6_rows")))["train"]
    assert keys(qat)["train"] == keys(qat.with_(parse("zstd_codec")))["train"]


def test_the_limit_matters_where_something_trims_to_it():
    trimmed = BASE.with_(parse("selective_prune"))
    assert keys(trimmed)["pack"] != keys(trimmed.with_(limit=9))["pack"]
    assert keys(trimmed)["train"] == keys(trimmed.with_(limit=9))["train"]


def test_the_room_for_the_artifact_matters_where_something_trims_to_it():
    """Whatever makes the script longer leaves less room, though it is no part of the pack stage."""
    trimmed = BASE.with_(parse("selective_prune"))
    assert different(keys(trimmed), keys(trimmed.with_(parse("hedge_mixer")))) == {"pack", "evaluate", "float"}
    assert different(keys(BASE), keys(BASE.with_(parse("hedge_mixer")))) == {"evaluate", "float"}


# ---------------------------------------------------------------------- edited code

EDITED = BASE.with_(parse("ste_qat"), parse("ema:decay=0.5"), parse("gptq"), parse("hedge_mixer"), parse("zlib_codec"))
LATER = {"pack", "evaluate", "float"}


def edited(name):
    """A reader of sources that finds one module with one more constant in it."""
    return lambda asked: source(asked) + (b"\n_EDITED = 1\n" if asked == name else b"")


def closures(recipe):
    """The modules each stage of the recipe can run, by what its function and its techniques import."""
    modules = {stage: {type(t).__module__ for t in recipe.all_techniques() if t.stage() == stage}
               for stage in ("data", "model", "train", "quantise", "pack", "evaluate")}  # fmt: skip
    averages = {type(t).__module__ for t in kept_averages(recipe)}
    read = {type(recipe.technique_in(slot)).__module__ for slot in ("bits", "clip")}  # QAT rounds as the export does
    trained = {
        "golflab.model.training.loop",
        "golflab.model.data.prepare",
        *modules["data"],
        *modules["model"],
        *modules["train"],
        *averages,
        *read,
    }
    packed = {"golflab.model.compression.finish", *modules["quantise"], *modules["pack"]}
    return {
        "train": closure(trained),
        "pack": closure(packed),
        "evaluate": closure({"golflab.model.network.weights", "golflab.model.evaluation.score", *modules["evaluate"]}),
    }


def test_every_edit_changes_the_keys_of_the_stages_that_can_run_it_and_no_others():
    before, stages = keys(EDITED), closures(EDITED)
    files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "model").rglob("*.py") if path.stem != "__init__"]
    everything = closure({".".join(("golflab", *path.parts)) for path in files} | set(TECHNIQUES))
    assert set(TECHNIQUES) < everything
    for name in everything:
        expected = set()
        expected |= {"train", *LATER} if name in stages["train"] else set()
        expected |= {"pack", "evaluate"} if name in stages["pack"] else set()
        expected |= {"evaluate", "float"} if name in stages["evaluate"] else set()
        assert different(before, keys(EDITED, read=edited(name))) == expected, name


@pytest.mark.parametrize(
    ("name", "recipe", "changed"),
    [
        ("golflab.model.techniques.train.ema", BASE, ALL),
        ("golflab.model.techniques.train.swa", BASE, ALL),
        ("golflab.model.compression.quantize", BASE, {"pack", "evaluate"}),
        ("golflab.model.compression.quantize", BASE.with_(parse("ste_qat")), ALL),
        ("golflab.model.data.shards", BASE, ALL),
        ("golflab.model.data.batches", BASE, ALL),
        ("golflab.model.technique", BASE, ALL),
        ("golflab.model.recipe", BASE, ALL),
        ("golflab.model.training.optimizers", BASE, ALL),
        ("golflab.model.compression.artifact", BASE, {"pack", "evaluate"}),
        ("golflab.model.submission.script", BASE, set()),  # its length is a value that the keys of what trims hold
        ("golflab.model.evaluation.windows", BASE, {"evaluate", "float"}),
        ("golflab.model.evaluation.resume", BASE, {"evaluate", "float"}),
        ("golflab.model.compression.gptq", BASE, set()),
        ("golflab.model.compression.gptq", BASE.with_(parse("gptq")), {"pack", "evaluate"}),
        ("golflab.model.techniques.quantise.gptq", BASE.with_(parse("gptq")), {"pack", "evaluate"}),
        ("golflab.model.techniques.evaluate.hedge_mixer", BASE.with_(parse("hedge_mixer")), {"evaluate", "float"}),
        ("golflab.model.techniques.model.smear_gate", BASE, set()),
        ("golflab.model.compression.forecast", BASE, set()),
        ("golflab.model.compression.calibration", BASE, set()),
        ("golflab.model.audit.judge", BASE, set()),
        ("golflab.model.run", BASE, set()),
    ],
)
def test_edits_that_were_once_overlooked(name, recipe, changed):
    assert different(keys(recipe), keys(recipe, read=edited(name))) == changed


def test_each_stage_is_given_no_more_of_the_recipe_than_its_key_holds():
    """What two recipes with the same key hand to a stage is the same recipe."""
    full = EDITED.with_(parse("crown_q"), limit=5000, corpus="x", split="test", name="n")
    other = full.with_(parse("zstd_codec"), parse("nearest"), parse("ema"), limit=6000, corpus="y", split="dev")
    other = other.without("hedge_mixer")
    assert keys(full.with_(parse("ema")))["train"] == keys(other)["train"]
    assert training_part(full.with_(parse("ema"))) == training_part(other)
    assert training_part(full).technique_in("average") == full.technique_in("average")  # not one that rides along anyway
    assert {t.slot for t in training_part(full).techniques if type(t).stage() not in ("data", "model", "train")} == {"bits"}
    assert training_part(full.with_(parse("int6_rows"))).technique_in("bits").name == "int6_rows"
    assert finishing_part(full) == finishing_part(full.without("hedge_mixer").with_(limit=9, split="dev"))
    assert scoring_part(full) == scoring_part(full.without("gptq").with_(parse("zstd_codec"), limit=9))


def test_no_training_reads_a_slot_of_a_later_stage_that_it_does_not_declare(monkeypatch):
    """A technique that asked the recipe for such a slot would be given the default: `reads` must name it."""
    asked, honest, plain = set(), Recipe.techniques_in, GPT(BASE)
    monkeypatch.setattr(Recipe, "techniques_in", lambda self, slot: (asked.add(slot), honest(self, slot))[1])
    for name in [name for name, cls in catalogue().items() if cls.stage() in ("data", "model", "train")]:
        recipe = recipe_with(default(name))
        asked.clear()
        model = initialize(GPT(recipe), recipe) if name in of_stage("model") else plain
        Optimizers(model, recipe)
        _watchers(recipe, model)
        declared = {slot for t in recipe.techniques for slot in t.reads}
        later = {slot for slot in asked if SLOTS[slot].stage in ("quantise", "pack", "evaluate")}
        assert later <= declared, name


# ---------------------------------------------------------------------- sources


def test_imports_are_followed_wherever_they_stand_and_however_they_are_written():
    texts = {
        "golflab.model": b"",
        "golflab.model.recipe": b"def f():\n    if 1:\n        import golflab.model.record as r, json",
        "golflab.model.record": b"from golflab.model.system import files",
        "golflab.model.system": b"",
        "golflab.model.system.files": b"from ..network import gpt",
        "golflab.model.network": b"",
        "golflab.model.network.gpt": b"from .layers import Linear",
        "golflab.model.network.layers": b"from golflab.model.nowhere import x\nimport torch\nfrom .kernels import *",
        "golflab.model.network.kernels": b"try:\n    from ..evaluation.windows import lay\nexcept ImportError: pass",
        "golflab.model.evaluation": b"",
        "golflab.model.evaluation.windows": b"# import golflab.model.evaluation.adapters",
        "golflab.model.techniques.pack": b"from ..model import rope",
        "golflab.model.techniques": b"from ..model import rope",
        "golflab.model.techniques.model": b"",
        "golflab.model.techniques.model.rope": b"",
    }
    assert closure({"golflab.model.recipe"}, read=texts.__getitem__) == set(list(texts)[:11])
    assert closure({"golflab.model.techniques.pack"}, read=texts.__getitem__) == {"golflab.model", *list(texts)[11:]}
    found = closure({"golflab.model.recipe"}, without={"golflab.model.system.files"}, read=texts.__getitem__)
    assert "golflab.model.network.gpt" not in found


def test_a_library_of_another_version_changes_the_hash(monkeypatch):
    before = code_hash({"golflab.model.network.kernels"})
    sources._code_hash.cache_clear()
    monkeypatch.setattr(sources, "_version", lambda library: "9.9" if library == "torch" else "")
    assert code_hash({"golflab.model.network.kernels"}) != before
    sources._code_hash.cache_clear()


@pytest.mark.parametrize(("written", "apart"), [(-60.0, False), (60.0, True), (7200.0, False)])
def test_a_file_written_after_the_process_began_is_shared_with_no_other_process(monkeypatch, written, apart):
    """Its module may have been imported before: what runs is unknown, so no other process may be given its results.

    Files with a time before the process began, or still to come (a wrong clock), are as they were.
    """
    stamp = path_of("golflab.model.network.kernels").stat().st_mtime
    hashes = []
    for own in (b"one process", b"another one"):
        sources._code_hash.cache_clear()
        sources._is_newer.cache_clear()
        monkeypatch.setattr(sources, "_EDITED", set())
        monkeypatch.setattr(sources, "_OWN", own)
        monkeypatch.setattr(sources, "_BEGAN", stamp - written)
        monkeypatch.setattr(sources, "time", SimpleNamespace(time=lambda: stamp - written + 3600.0))
        monkeypatch.setattr(sources, "path_of", lambda name: path_of("golflab.model.network.kernels"))
        hashes.append(code_hash({"golflab.model.network.kernels"}))
        assert (sources.edited() != []) == apart
    assert (hashes[0] != hashes[1]) == apart
    sources._code_hash.cache_clear()
    sources._is_newer.cache_clear()


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


def test_a_lock_makes_its_folder_and_is_held_by_one_file_descriptor_at_a_time(tmp_path):
    cache = Cache(tmp_path / "a" / "b")
    with cache.lock("train", "k"), cache.lock("train", "other"), cache.lock("pack", "k"):
        assert cache.path("train", "k", "lock") == tmp_path / "a" / "b" / "train" / "k.lock"
        with open(cache.path("train", "k", "lock")) as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(cache.path("train", "k", "lock")) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # free again


@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_that_was_removed_while_somebody_waited_for_it_is_taken_anew(tmp_path, monkeypatch, replaced):
    cache, honest, taken = Cache(tmp_path), fcntl.flock, []

    def flock(file, what):
        honest(file, what)
        taken.append(file.fileno())
        if len(taken) == 1:
            cache.path("train", "k", "lock").unlink()
            if replaced:
                cache.path("train", "k", "lock").touch()

    monkeypatch.setattr("golflab.model.system.files.fcntl.flock", flock)
    with cache.lock("train", "k"):
        assert len(taken) == 2
        with open(cache.path("train", "k", "lock")) as file, pytest.raises(BlockingIOError):
            honest(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_is_read_from_the_cache_is_young_again_and_what_is_not_there_is_none(tmp_path):
    cache = Cache(tmp_path / "deep")
    assert cache.read("train", "k") is None
    assert not (tmp_path / "deep").exists()
    cache.write("train", "k", {"a": torch.arange(3)}, {"told": 1})
    path = cache.path("train", "k")
    assert path == tmp_path / "deep" / "train" / "k.stage"
    os.utime(path, (1.0, 1.0))
    tensors, told = cache.read("train", "k")
    assert (tensors["a"].tolist(), told) == ([0, 1, 2], {"told": 1})
    assert path.stat().st_mtime > 1e9


def test_a_cache_that_may_only_be_read_is_read(tmp_path, monkeypatch):
    cache = Cache(tmp_path)
    cache.write("train", "k", {"a": torch.arange(3)}, {})
    monkeypatch.setattr(os, "utime", lambda *_: (_ for _ in ()).throw(PermissionError("read-only")))
    assert cache.read("train", "k") is not None


def test_keys_of_trainings_with_an_own_average_and_with_none():
    """The averages that ride along are one training; another decay is another; what is finished with it differs each time."""
    plain, usual, own, other = (
        BASE,
        BASE.with_(parse("ema")),
        BASE.with_(parse("ema:decay=0.5")),
        BASE.with_(parse("ema:decay=0.6")),
    )
    assert usual.technique_in("average") in kept_averages(plain)
    found = [keys(recipe) for recipe in (plain, usual, own, other)]
    assert [found[0]["train"] == f["train"] for f in found] == [True, True, False, False]
    assert found[2]["train"] != found[3]["train"]
    for stage in ("pack", "evaluate", "float"):
        assert len({f[stage] for f in found}) == 4
    assert training_part(plain).technique_in("average") is None
    assert training_part(own) != training_part(other)


def test_the_room_that_the_key_holds_is_what_the_limit_leaves(monkeypatch):
    """One byte more of code and one byte more of limit are the same room; either alone is another."""
    trimmed, added = BASE.with_(parse("selective_prune")), [0]
    monkeypatch.setattr("golflab.model.stages.exact_code_bytes", lambda recipe: 1000 + added[0])
    monkeypatch.setattr("golflab.model.stages.finishing_part", scoring_part)  # which does not hold the limit
    first = later_keys(trimmed, "t", HERE)
    longer = later_keys(trimmed.with_(limit=trimmed.limit + 1), "t", HERE)
    added[0] = 1
    assert later_keys(trimmed.with_(limit=trimmed.limit + 1), "t", HERE) == first
    assert different(first, longer) == different(first, later_keys(trimmed, "t", HERE)) == {"pack", "evaluate"}
    plain = later_keys(BASE, "t", HERE)
    added[0] = 2
    assert later_keys(BASE, "t", HERE) == plain
