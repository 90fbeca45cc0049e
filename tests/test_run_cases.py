"""From recipe to record, statement by statement, around a training that takes no time."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from types import SimpleNamespace

import pytest
import torch

from golflab.model import run as story
from golflab.model.job import finishing
from golflab.model.job import training as train_stage
from golflab.model.job.job import Job
from golflab.model.job.request import Request
from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.record import Record
from golflab.model.run import again, assist, packed, run, training
from golflab.model.stages import Cache, training_part
from golflab.model.system.device import Place
from golflab.model.system.machine import Conditions
from golflab.model.technique import parse
from golflab.model.training.result import Trained, TrainingFailed, average_key
from golflab.model.ways import Way
from tests.contract_helpers import BASE, BATCH, made_up_corpus


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def recipe(home):
    return BASE.with_(corpus=str(made_up_corpus(home)), tokens=4 * BATCH, limit=10**7, layers=1)


@pytest.fixture
def cache(home, tmp_path):
    """A stage cache of its own whose data are prepared."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (home / "data").mkdir(exist_ok=True)
    (folder / "data").symlink_to(home / "data")
    return folder


@pytest.fixture
def trained(monkeypatch):
    """A training that takes no time: what it was asked, and what it leaves."""
    told = SimpleNamespace(calls=[], result={"tokens": 4 * BATCH, "seconds": 2.0}, failure=None, within=None)

    def train(part, source, **options):
        told.calls.append((part, source, options))
        if options["checkpoint"] is not None:
            options["checkpoint"].parent.mkdir(parents=True, exist_ok=True)
            options["checkpoint"].write_bytes(b"")
        if told.failure:
            raise TrainingFailed(told.failure)
        weights = {n: p.detach().clone() for n, p in initialize(GPT(part), part).named_parameters()}
        return Trained(weights, {}, **told.result)

    for module in (train_stage, story):
        monkeypatch.setattr(module, "train", train)
    return told


def checkpoints(cache):
    return sorted(path.name for path in cache.glob("train/*.checkpoint"))


def test_a_training_is_given_what_was_asked_and_only_its_part_of_the_recipe(recipe, cache, trained):
    step = lambda point: None
    run(recipe, None, cache, device="cpu", on_step=step, micro_tokens=32)
    part, source, options = trained.calls.pop()
    place = Place.choose("cpu")
    assert part == training_part(recipe)
    assert source.batch(0)[0].shape == (2, 32)
    assert options["checkpoint"].name.endswith(f"-{recipe.hash}.checkpoint")
    assert {**options, "checkpoint": None} == {
        "dtype": place.dtype, "compiled": False, "micro_tokens": 32, "on_step": step, "on_rung": None, "device": place.device,
        "checkpoint": None,
    }  # fmt: skip
    for options, asked in (({"rungs": False}, False), ({}, True)):
        recipe = recipe.with_(seed=recipe.seed + 1)
        run(recipe, None, cache, device="cpu", on_rung=lambda point: None, **options)
        assert (trained.calls.pop()[2]["on_rung"] is not None) == asked


@pytest.mark.parametrize(("graphs", "yes", "seconds", "pace"), [(0, "no", 1.23456, 207.4), (3, "yes", 0.0, None)])
def test_a_record_tells_how_the_training_went(recipe, cache, trained, tmp_path, graphs, yes, seconds, pace):
    curve, rungs = [{"step": 4, "loss": 1.0}], [{"step": 2, "bpb": 3.0}]
    trained.result = {"tokens": 256, "seconds": seconds, "curve": curve, "rungs": rungs, "notes": ["a note"], "graphs": graphs}
    where = {"processes": "1", "nodes": "n"}
    record = run(recipe, tmp_path / "r", cache, device="cpu", compiled=True, where=where)
    assert (record.state, record.trained, record.tokens) == ("complete", True, 256)
    assert record.seconds == round(seconds, 3)
    assert record.tokens_per_second == (pace or 256e9)
    assert record.curve == [*curve, *rungs]
    assert (record.machine["compiled"], record.machine["graphs"], record.machine["nodes"]) == (yes, str(graphs), "n")
    assert record.notes[0] == "a note"
    assert set(record.stages) == {"prepare", "train", "pack", "evaluate"}
    assert record.training
    assert record.parameters == sum(p.numel() for p in GPT(recipe).parameters())
    assert record.spec == recipe.to_json()
    assert Record.load(tmp_path / "r") == record
    assert checkpoints(cache) == []
    assert not list(cache.glob("train/*.unrecorded"))
    found = run(recipe, None, cache, device="cpu", compiled=True, where=where)
    assert (found.trained, found.notes, found.bpb, found.training) == (False, [], record.bpb, record.training)


@pytest.mark.parametrize("reason", ["too large", "", None])
def test_the_finished_size_is_told_before_anything_is_scored(recipe, cache, trained, monkeypatch, reason):
    heard, scored, honest = [], [], finishing.evaluate
    monkeypatch.setattr(finishing, "evaluate", lambda *a, **k: scored.append(len(heard)) or honest(*a, **k))
    record = run(recipe, None, cache, device="cpu", on_rung=lambda point: heard.append(point) or reason, rungs=False)
    told = {"step": 4, "bytes": record.bytes, "trained": True, "tokens": 256, "seconds": 2.0, "progress": 1.0}
    assert heard == [told]
    assert record.bytes == record.code_bytes + len(packed(recipe, cache, "cpu"))
    if reason:
        assert (record.state, record.reason, record.bpb, scored) == ("pruned", "too large", None, [])
    else:
        assert (record.state, record.reason, scored) == ("complete", "", [1, 1])


def test_weights_are_scored_before_quantisation_unless_that_is_not_wanted_or_costs_too_much(recipe, cache, trained):
    assert run(recipe, None, cache, device="cpu").bpb_float > 0
    assert run(recipe, None, cache, device="cpu", float_score=False).bpb_float is None
    slot = SimpleNamespace(technique_in=lambda name: None, techniques_in=lambda name: ["an adapter"] if name == "adapt" else [])
    job, record = SimpleNamespace(recipe=slot), SimpleNamespace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finishing, "_score", lambda job, weights, stage: SimpleNamespace(bpb=1.5))
        patch.setattr(finishing, "unpack", lambda blob: {})
        finishing.score_artifact(job, Request(), Trained({}, {}), b"", record)
    assert vars(record) == {"bpb": 1.5, "state": "complete"}


def test_less_in_flight_than_asked_is_noted_by_all_who_use_the_training(recipe, cache, trained):
    note = f"out of memory at micro_tokens={BATCH}; ran at 32"
    records = [run(recipe, None, cache, device="cpu", micro_tokens=micro) for micro in (32, None)]
    assert [r.notes.count(note) for r in records] == [1, 1]
    assert len(trained.calls) == 1
    assert run(recipe.with_(seed=5), None, cache, device="cpu").notes == []


def test_what_a_reader_should_know_is_noted(recipe, cache, trained, monkeypatch):
    monkeypatch.setattr(story, "edited", lambda: ["model.a", "model.b"])
    monkeypatch.setattr(story, "repetition", lambda text, batch, tokens: [f"{batch} {tokens} {len(text) > 0}"])
    record = run(recipe.with_(parse("ema:decay=0.5")), None, cache, device="cpu")
    edited = "model.a, model.b: edited while this process ran; its results are shared with no other"
    assert record.notes == ["ema collected nothing; the last weights were exported.", f"{BATCH} {4 * BATCH} True", edited]


def test_notes_and_overlap_of_the_data_are_the_records(recipe, cache, trained, monkeypatch):
    honest = story.Job.begin

    def begin(*arguments):
        job = honest(*arguments)
        job.data = dataclasses.replace(job.data, facts={"notes": ["of the data"], "overlap": {"documents": 0.5}})
        return job

    monkeypatch.setattr(story.Job, "begin", begin)
    record = run(recipe, None, cache, device="cpu")
    assert (record.notes, record.overlap) == (["of the data"], {"documents": 0.5})


def test_others_train_along_with_what_the_first_process_has(recipe, cache, trained):
    seen = []

    @contextlib.contextmanager
    def together(part, settings):
        seen.append((part, settings, len(trained.calls)))
        yield
        seen.append(len(trained.calls))

    run(recipe, None, cache, device="cpu", together=together, where={"processes": "2"})
    part, settings, before = seen[0]
    assert (before, seen[1]) == (0, 1)
    assert part == training_part(recipe).with_(corpus=recipe.data.corpus, tokenizer=recipe.data.tokenizer)
    dtype = Place.choose("cpu").dtype
    assert {**settings, "checkpoint": None, "fingerprint": ""} == {
        "dtype": dtype, "checkpoint": None, "compiled": False, "micro_tokens": None, "fingerprint": "",
    }  # fmt: skip
    with pytest.raises(RuntimeError, match="is not the same on all nodes"):
        assist(part, cache, **settings | {"fingerprint": "another"}, device="cpu")
    assert len(trained.calls) == 1
    assist(part, cache, **settings, device="cpu")
    mine, _, options = trained.calls[1]
    assert mine == part
    assert options | {"fingerprint": settings["fingerprint"]} == settings | {"device": torch.device("cpu")}


def test_what_was_packed_and_scored_is_found_again(recipe, cache, trained, monkeypatch):
    first = run(recipe, None, cache, device="cpu")
    for module, name in ((train_stage, "train"), (finishing, "artifact"), (finishing, "evaluate")):
        monkeypatch.setattr(module, name, None)
    found = run(recipe, None, cache, device="cpu")
    assert (found.bytes, found.bpb, found.bpb_float) == (first.bytes, first.bpb, first.bpb_float)


@pytest.mark.parametrize("own", [True, False])
def test_a_training_that_is_found_is_ones_own_only_if_one_was_interrupted_behind_it(recipe, tmp_path, own):
    done = Trained({"a": torch.ones(2)}, {}, notes=["noted while training"], rungs=[{"step": 2}])
    names, job = (
        [],
        SimpleNamespace(
            recipe=recipe,
            notes=[],
            trained_here=False,
            checkpoint=tmp_path / "c",
            is_own=lambda: own,
            name_training=lambda told: names.append(told),
        ),
    )
    tensors, facts = done.to_tensors()
    for there in (True, False):
        if there:
            job.checkpoint.touch()
        job.notes = []
        found = train_stage._from_cache(job, tensors, facts | {"micro_tokens": 32})
        assert not job.checkpoint.exists()
        assert job.notes == [f"out of memory at micro_tokens={BATCH}; ran at 32", *(["noted while training"] if own else [])]
        assert (job.trained_here, found.rungs) == ((True, [{"step": 2}]) if own else (False, []))
    assert [told["micro_tokens"] for told in names] == [32, 32]


# ---------------------------------------------------------------------- what goes wrong


def test_a_training_that_failed_leaves_its_reason_and_no_checkpoint(recipe, cache, trained, tmp_path):
    trained.failure = "the loss became nan"
    record = run(recipe, tmp_path / "r", cache, device="cpu")
    assert (record.state, record.reason, record.bytes) == ("failed", "the loss became nan", None)
    assert Record.load(tmp_path / "r") == record
    assert checkpoints(cache) == []
    with pytest.raises(ValueError, match=rf"the training of recipe {recipe.hash} failed: the loss became nan"):
        training(recipe, cache, device="cpu")
    with pytest.raises(ValueError, match=rf"recipe {recipe.hash} completed earlier and ended failed now"):
        again(recipe, cache, record, "cpu")
    with pytest.raises(ValueError, match="holds no artifact of recipe"):
        packed(recipe, cache, "cpu")


def test_a_stopped_training_is_not_kept_and_leaves_no_checkpoint(recipe, cache, trained):
    trained.result["stopped"] = "no"
    record = run(recipe, None, cache, device="cpu")
    assert (record.state, record.reason, record.bytes, record.tokens) == ("pruned", "no", None, 256)
    assert checkpoints(cache) == []
    assert not list(cache.glob("train/*.stage"))


def test_a_full_disk_costs_the_entry_and_the_checkpoint_stays(recipe, cache, trained, monkeypatch):
    honest = Cache.write

    def write(self, stage, *rest):
        if stage == "train":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        honest(self, stage, *rest)

    monkeypatch.setattr(Cache, "write", write)
    record = run(recipe, None, cache, device="cpu")
    assert record.state == "complete"
    assert "the result of stage 'train' could not be kept: No space left on device" in record.notes
    assert len(checkpoints(cache)) == 1


@pytest.mark.parametrize(("float_score", "what"), [(True, "weights"), (False, "artifact")])
def test_what_cannot_be_scored_says_what_and_why(recipe, cache, trained, monkeypatch, float_score, what):
    monkeypatch.setattr(finishing, "evaluate", lambda *a, **k: SimpleNamespace(bpb=float("inf")))
    record = run(recipe, None, cache, device="cpu", float_score=float_score)
    assert (record.state, record.bpb) == ("failed", None)
    assert record.reason == f"the {what} scored inf bits per byte"
    resumes = []

    def refuse(model, documents, tokenizer, part, resume, **more):
        resumes.append(resume)
        raise ValueError("no room for this window")

    monkeypatch.setattr(finishing, "evaluate", refuse)
    record = run(recipe, None, cache, device="cpu", float_score=float_score)
    assert (record.state, record.reason) == ("failed", "no room for this window")
    assert resumes[0].suffix == ".partial"
    assert resumes[0].parent == cache / "evaluate"


def test_weights_that_cannot_be_packed_say_why(recipe, cache, trained, monkeypatch):
    def refuse(*_):
        raise ValueError("no file holds that")

    monkeypatch.setattr(finishing, "artifact", refuse)
    record = run(recipe, None, cache, device="cpu")
    assert (record.state, record.reason, record.bytes) == ("failed", "no file holds that", None)


def test_a_training_is_found_again_with_the_weights_its_recipe_exports(recipe, cache, trained):
    own = recipe.with_(parse("ema:decay=0.5"))
    average = {"table.weight": torch.ones(1)}
    key = average_key(own.technique_in("average"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            story, "train_or_find", lambda job, asked: (setattr(job, "training", "t"), Trained({}, {key: average}))[1]
        )
        found = training(own, cache, on_step=print, device="cpu")
    assert (found.key, found.weights) == ("t", average)
    assert found.data.fingerprint == training(own, cache, device="cpu").data.fingerprint
    assert next(found.model.parameters()).device.type == "cpu"
    assert not list(cache.glob("train/*.unrecorded"))  # nobody waits for a record


def test_ways_are_compared_once_the_recipe_is_scored_and_cost_their_own_time(recipe, cache, trained, monkeypatch):
    monkeypatch.setattr(finishing, "compare", lambda recipe, trained, model, data, ways: [{"ways": list(ways)}])
    monkeypatch.setattr(finishing, "collected", lambda ways, trained: [str(way) for way in ways])
    way = Way.parse("int8_rows")
    record = run(recipe, None, cache, device="cpu", ways=[way])
    assert record.finishings == [{"ways": ["int8_rows"]}]
    assert "finish" in record.stages
    stopped = run(recipe, None, cache, device="cpu", ways=[way], on_rung=lambda point: "no")
    assert (stopped.finishings, "finish" in stopped.stages) == ([], False)


# ---------------------------------------------------------------------- trainings bounded by seconds


@pytest.mark.parametrize(
    ("seconds", "earlier", "own", "short", "paces", "serves", "notes"),
    [
        (None, None, False, "part", (9.0, 1.0), True, 0),
        (5.0, "conditions", False, "part", (9.0, 1.0), True, 0),
        (5.0, None, True, "part", (9.0, 1.0), True, 0),
        (5.0, None, False, None, (1.0, 1.0), False, 0),
        (5.0, None, False, "part", (1.0, 1.2), True, 0),
        (5.0, None, False, "part", (0.5, 1.0), False, 1),
        (5.0, None, False, "part", None, False, 0),
    ],
)
def test_which_training_in_the_cache_is_the_one_this_run_would_do(
    recipe, monkeypatch, seconds, earlier, own, short, paces, serves, notes
):
    tries = []

    def attempt(job, asked, part, checkpoint):
        tries.append((part, checkpoint))
        if paces is None:
            raise TrainingFailed("with this shorter schedule")
        return Trained({}, {})

    monkeypatch.setattr(train_stage, "_train", attempt)
    monkeypatch.setattr(train_stage, "short_training", lambda part, told: short)
    monkeypatch.setattr(train_stage, "measured_step_seconds", lambda curve: paces[0])
    monkeypatch.setattr(train_stage, "step_seconds", lambda part, told: paces[1] if paces else 1.0)
    job = SimpleNamespace(recipe=recipe.with_(seconds=seconds), earlier=earlier, is_own=lambda: own, notes=[])
    assert train_stage._is_usable(job, Request(), {}) is serves
    assert len(job.notes) == notes
    if notes:
        assert job.notes == ["the training in the cache took 1 s a step, this process takes 0.5; trained anew"]
    assert tries == ([("part", None)] if seconds and not earlier and not own and short else [])


def test_trainings_bounded_by_seconds_have_names_of_their_own(recipe, cache, trained):
    plain = run(recipe, None, cache, device="cpu")
    records = []
    for _ in range(2):
        bounded = recipe.with_(seconds=5.0)
        records.append(run(bounded, None, cache, device="cpu"))
        assert len(packed(bounded, cache, "cpu")) == records[-1].bytes - records[-1].code_bytes
        for path in cache.glob("train/*.stage"):
            path.unlink()
    assert len({plain.training, *(r.training for r in records)}) == 3
    assert run(recipe, None, cache, device="cpu").training == plain.training


# ---------------------------------------------------------------------- rungs


def test_a_rung_is_measured_on_the_split_and_passed_on(recipe, cache, monkeypatch):
    job = Job.begin(recipe, cache, "cpu", None)
    asked, heard = [], []

    def measure(recipe, model, documents, tokenizer, code_bytes, counts):
        asked.append((model, len(documents), code_bytes))
        return {"bpb": 2.5, "bytes": 77}, [2.0, 3.0]

    monkeypatch.setattr(train_stage, "measure", measure)
    point = {"step": 2}
    assert train_stage._measure_rung(job, lambda told: heard.append(told) or "why", point, "a model") == "why"
    assert asked == [("a model", len(job.data.dev), job.code_bytes)]
    assert point == {"step": 2, "bpb": 2.5, "bytes": 77}
    assert heard == [{"step": 2, "bpb": 2.5, "bytes": 77, "documents": [2.0, 3.0]}]


def test_an_earlier_runs_training_is_used_wherever_it_was_done(recipe, cache, trained, monkeypatch):
    first = run(recipe, None, cache, device="cpu", where={"processes": "4"})
    assert Conditions.of_record(first.machine).processes == 4
    record, blob = again(recipe, cache, first, "cpu")
    assert len(trained.calls) == 1
    assert (record.bytes, record.bpb, record.bpb_float) == (first.bytes, first.bpb, first.bpb_float)
    assert len(blob) == record.bytes - record.code_bytes
    monkeypatch.setattr(finishing, "evaluate", lambda *a, **k: SimpleNamespace(bpb=float("nan")))
    with pytest.raises(ValueError, match="scored nan bits per byte"):
        again(recipe.with_(parse("sliding_window:stride=8")), cache, first, "cpu")
