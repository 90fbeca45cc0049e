"""Recipe to record: the whole story on a tiny corpus, what is cached, and what a run leaves behind."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from golflab.model import run as story
from golflab.model.compression.artifact import unpack
from golflab.model.data.corpus import load_corpus
from golflab.model.data.prepare import prepare
from golflab.model.evaluation.score import evaluate
from golflab.model.job import finishing
from golflab.model.job import training as train_stage
from golflab.model.network.gpt import GPT
from golflab.model.network.weights import scored_model
from golflab.model.record import Record, load_documents
from golflab.model.run import run
from golflab.model.system.device import Place
from golflab.model.system.machine import Conditions
from golflab.model.technique import parse
from golflab.model.training import loop, rungs
from tests.contract_helpers import BASE, BATCH, made_up_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return made_up_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def recipe(corpus):
    return BASE.with_(corpus=str(corpus), tokens=24 * BATCH, limit=10**7)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def trainings(monkeypatch):
    """The recipes that were really trained."""
    done, original = [], train_stage.train

    def counted(recipe, *args, **kwargs):
        done.append(recipe)
        return original(recipe, *args, **kwargs)

    monkeypatch.setattr(train_stage, "train", counted)
    return done


def test_a_record_tells_everything(recipe, cache, tmp_path):
    record = run(recipe, tmp_path, cache, device="cpu")
    assert (record.state, record.reason) == ("complete", "")
    assert Record.load(tmp_path).summary() == record.summary()
    assert record.bytes == record.code_bytes + len(story.packed(recipe, cache, "cpu"))
    assert record.tokenizer_bytes == next((cache / "data").glob("*.model")).stat().st_size
    assert record.bytes_with_tokenizer == record.bytes + record.tokenizer_bytes
    assert record.bytes_forecast["low"] <= record.bytes_forecast["mid"] <= record.bytes_forecast["high"]
    assert record.parameters == sum(w.numel() for w in unpack(story.packed(recipe, cache, "cpu")).values())
    assert record.tokens == 24 * BATCH
    bits, sizes = load_documents(tmp_path)
    assert record.bpb == pytest.approx(bits.sum() / sizes.sum())
    assert 0 < record.bpb_float < 9
    assert record.bpb != record.bpb_float


def test_recipes_that_differ_after_training_share_one(recipe, cache, tmp_path, trainings):
    """Averages, bits, codecs and windows: five records, one training; a different matrix rate trains again."""
    base = recipe.with_(seed=7)
    later = ["int6_rows", "zstd_codec", "sliding_window:stride=8", "swa:threshold=0.4"]
    records = [run(r, None, cache, device="cpu") for r in (base, *(base.with_(parse(text)) for text in later))]
    assert len(trainings) == 1
    assert [r.trained for r in records] == [True, False, False, False, False]
    assert len({(r.bytes, r.bpb) for r in records}) == 5
    run(base.with_(parse("muon:lr=0.01")), None, cache, device="cpu")
    assert len(trainings) == 2


def test_a_run_again_computes_nothing_and_says_the_same(recipe, cache, trainings):
    first, again = (run(recipe, None, cache, device="cpu") for _ in range(2))
    assert (first.bpb, first.bytes, first.bpb_float) == (again.bpb, again.bytes, again.bpb_float)
    assert trainings == []


def test_a_damaged_entry_is_computed_again(recipe, cache, trainings):
    recipe = recipe.with_(seed=8)
    first = run(recipe, None, cache, device="cpu")
    for path in cache.rglob("*.stage"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    again = run(recipe, None, cache, device="cpu")
    assert len(trainings) == 2
    assert (first.bpb, first.bytes) == (again.bpb, again.bytes)


def test_rungs_measure_bytes_and_bits_and_may_stop(recipe, cache, tmp_path):
    points = []

    def at(point):
        points.append(point)
        return "too large" if len(points) == 2 else None

    record = run(recipe.with_(seed=9), tmp_path, cache, on_rung=at, device="cpu")
    assert (record.state, record.reason) == ("pruned", "too large")
    assert [p["progress"] for p in points] == [0.25, 0.5]
    assert all(p["bytes"] > 10_000 and np.isfinite(p["bpb"]) for p in points)
    assert record.bpb is None


def test_a_diverging_run_fails_with_its_reason(recipe, cache, tmp_path, monkeypatch):
    def diverge(*args, **kwargs):
        raise story.TrainingFailed("the loss became nan at step 3")

    monkeypatch.setattr(train_stage, "train", diverge)
    record = run(recipe.with_(seed=10), tmp_path, cache, device="cpu")
    assert (record.state, record.reason) == ("failed", "the loss became nan at step 3")
    assert Record.load(tmp_path).state == "failed"


def test_what_cannot_work_is_refused_before_anything_is_done(recipe, tmp_path):
    with pytest.raises(ValueError, match="stride"):
        run(recipe.with_(parse("sliding_window:stride=64")), tmp_path / "r", tmp_path / "c", device="cpu")
    with pytest.raises(ValueError, match="nowhere"):
        run(recipe.with_(corpus="nowhere"), tmp_path / "r", tmp_path / "c", device="cpu")
    assert not (tmp_path / "r").exists()


def test_a_rung_scores_stretches_that_begin_with_bos_and_cover_the_text_once():
    long = np.concatenate([[1], np.arange(100, 3600)])
    short = np.concatenate([[1], np.arange(5000, 5010)])
    found = rungs.stretches([long, short])
    assert all(stretch[0] == 1 for stretch in found)
    assert np.array_equal(np.concatenate([s[1:] for s in found]), np.concatenate([long[1:], short[1:]]))
    assert max(map(len, found)) == rungs.RUNG_STRETCH + 1
    many = rungs.stretches([long] * 20)
    assert sum(len(s) - 1 for s in many) == rungs.RUNG_TOKENS


# ---------------------------------------------------------------------- what is packed, scored and shared


def test_what_is_packed_and_scored_is_the_model_at_the_end_of_its_training(recipe, cache, monkeypatch):
    """With a recurrence that switches on in mid-training, the model before it is another one."""
    recipe = recipe.with_(parse("depth_recurrence:first=0,final=1,begin=0.5"), parse("gptq:tokens=256"), tokens=8 * BATCH)
    seen = []
    for name in ("artifact", "evaluate"):
        honest = getattr(finishing, name)

        def watched(*arguments, honest=honest, **options):
            seen.append(next(model for model in arguments if isinstance(model, GPT)).order)
            return honest(*arguments, **options)

        monkeypatch.setattr(finishing, name, watched)
    record = run(recipe, None, cache, device="cpu")
    assert seen == [[0, 1, 2, 3, 0, 1]] * 3
    model = scored_model(recipe, unpack(story.packed(recipe, cache, "cpu")), dtype=Place.choose("cpu").dtype)
    data = prepare(recipe.data, recipe.shape.vocabulary, cache / "data")
    scores = []
    for progress in (1.0, 0.0):
        model.set_progress(progress)
        scores.append(evaluate(model, data.dev, data.tokenizer, recipe).bpb)
    assert record.bpb == scores[0] != scores[1]


def test_an_artifact_trimmed_for_other_code_is_not_used_again(recipe, cache, monkeypatch):
    monkeypatch.setattr("golflab.model.submission.script.counted_code", lambda recipe, length: length)  # as at full scale
    plain = recipe.with_(seed=36, tokens=4 * BATCH)
    size = run(plain, None, cache, device="cpu").bytes
    trimmed = plain.with_(parse("selective_prune:tolerance=0.01"), limit=size - 200)
    first = run(trimmed, None, cache, device="cpu")
    mixed = trimmed.with_(parse("hedge_mixer"))
    room = mixed.with_(limit=mixed.limit + run(mixed, None, cache, device="cpu").code_bytes - first.code_bytes)
    assert first.bytes <= trimmed.limit
    assert run(room, None, cache, device="cpu").bytes <= room.limit
    assert len(story.packed(mixed, cache, "cpu")) < len(story.packed(trimmed, cache, "cpu"))


def test_a_training_bounded_by_seconds_serves_only_who_would_do_the_same_work(recipe, cache, tmp_path, monkeypatch):
    """A slow process trains 8 steps in its time, a fast one 16; each is given its own, and what follows from it."""
    now, honest = {"now": 0.0, "step": 1.0}, loop._gradients

    def gradients(*arguments):
        now["now"] += now["step"]
        return honest(*arguments)

    monkeypatch.setattr("golflab.model.training.clock.time", SimpleNamespace(perf_counter=lambda: now["now"]))
    monkeypatch.setattr(loop, "_gradients", gradients)
    recipe = recipe.with_(seed=37, tokens=None, seconds=8.0)

    def went(step, **options):
        now["step"] = step
        record = run(recipe.with_(**options), None, cache, device="cpu")
        return record.tokens // BATCH, record.trained, record.training, record.bpb

    slow, slow_again, fast, fast_again = went(1.0), went(1.1), went(0.5), went(0.5)
    assert (slow[:2], slow_again[:2]) == ((8, True), (8, False))
    assert (fast[:2], fast_again[:2]) == ((16, True), (16, False))
    assert slow[2:] == slow_again[2:] != fast[2:] == fast_again[2:]
    assert went(1.0)[:2] == (8, True)
    assert len(story.packed(recipe, cache, "cpu")) > 0


def test_conditions_tell_machines_apart_and_a_record_keeps_them(recipe, cache):
    record = run(recipe, None, cache, device="cpu", where={"processes": "1", "nodes": "n"})
    here = Conditions.here(Place.choose("cpu"))
    assert Conditions.of_record(record.machine) == here
    assert Conditions.of_record({"device": "x86_64"}) is None
    assert record.machine["graphs"] == "0"
    assert record.machine["nodes"] == "n"
    data = prepare(recipe.data, recipe.shape.vocabulary, cache / "data")
    assert record.machine["corpus"] == load_corpus(recipe.data.corpus).fingerprint
    assert record.machine["tokenizer"] == data.tokenizer.fingerprint
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        assert Conditions.here(Place.choose("cpu")) != here
    finally:
        torch.set_num_threads(before)


def test_a_training_by_several_processes_is_not_that_of_one(recipe, cache, trainings):
    """The first process of a run that others train along with; here nobody does."""
    recipe = recipe.with_(seed=38, tokens=4 * BATCH)
    records = [
        run(recipe, None, cache, device="cpu", where={"processes": count} if count else None) for count in ("", "2", "2")
    ]
    assert len(trainings) == 2
    assert records[0].training != records[1].training == records[2].training
