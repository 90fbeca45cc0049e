"""Runs that are killed, stopped or spoiled: what they leave behind, and that nothing is lost."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from golflab.model.job import finishing
from golflab.model.job import training as train_stage
from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.record import Record
from golflab.model.run import run
from golflab.model.technique import parse
from golflab.model.training import loop, state
from golflab.model.training.result import Trained
from tests.contract_helpers import BASE, BATCH, made_up_corpus


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    corpus = made_up_corpus(tmp_path_factory.mktemp("corpus"))
    return BASE.with_(corpus=str(corpus), tokens=8 * BATCH, limit=10**7, layers=1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


# ---------------------------------------------------------------------- interrupted runs


class Interrupted(BaseException):
    """What a kill looks like from inside: nothing of ours catches it."""


def told(record):
    """What a record says, but for the time things took."""
    body = dataclasses.asdict(record)
    timeless = [{key: value for key, value in point.items() if key != "seconds"} for point in body.pop("curve")]
    return timeless, {key: value for key, value in body.items() if key not in ("seconds", "tokens_per_second", "stages")}


def interrupting(monkeypatch, moment):
    """Let a run die once at a moment; what it is given to hear its rungs."""
    asked, alive = [], [True]

    def dies(*_, **__):
        if alive.pop():
            alive.append(False)
            raise Interrupted
        alive.append(False)

    def at(point):
        asked.append(point["step"])
        if moment == "in the second rung" and len(asked) == 2:
            dies()
        if moment == "when the size is told" and point["progress"] == 1.0:
            dies()

    where = {"while packing": "artifact", "while scoring": "evaluate", "while saving": None}
    if where.get(moment):
        honest = getattr(finishing, where[moment])
        monkeypatch.setattr(finishing, where[moment], lambda *a, **k: (dies(), honest(*a, **k))[1])
    if moment == "while saving":
        save = Record.save
        monkeypatch.setattr(Record, "save", lambda *a, **k: (dies(), save(*a, **k))[1])
    return at, asked


@pytest.fixture(scope="module")
def undisturbed(recipe, cache, tmp_path_factory):
    """The record of a run that was left alone, and the steps of its rungs."""
    rungs = []
    return run(recipe, tmp_path_factory.mktemp("r"), cache, device="cpu", on_rung=lambda p: rungs.append(p["step"])), rungs


MOMENTS = ("in the second rung", "while packing", "when the size is told", "while scoring", "while saving")


@pytest.mark.parametrize(("moment", "folder"), [*((moment, "killed") for moment in MOMENTS), ("while scoring", None)])
def test_a_run_killed_at_any_moment_ends_with_the_record_of_an_undisturbed_one(
    recipe, undisturbed, cache, tmp_path, monkeypatch, moment, folder
):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    whole, rungs = undisturbed
    other = tmp_path / "cache"
    shutil.copytree(cache / "data", other / "data")
    (at, asked), folder = interrupting(monkeypatch, moment), folder and tmp_path / folder
    with pytest.raises(Interrupted):
        run(recipe, folder, other, device="cpu", on_rung=at)
    resumed = run(recipe, folder, other, device="cpu", on_rung=at)
    assert told(resumed) == told(whole)
    assert resumed.trained
    assert [p["step"] for p in resumed.curve if "bpb" in p] == [2, 4, 6] == rungs[:3]
    assert sorted(set(asked)) == rungs
    assert {path.suffix for path in (other / "train").iterdir()} == {".stage", ".lock"}


def test_a_training_found_in_the_cache_brings_no_rungs_of_the_run_that_trained_it(recipe, cache, tmp_path):
    recipe = recipe.with_(seed=30)
    run(recipe, tmp_path / "a", cache, device="cpu", on_rung=lambda point: None)
    for other, folder in ((recipe.with_(parse("zstd_codec")), tmp_path / "b"), (recipe, None), (recipe, tmp_path / "a")):
        record = run(other, folder, cache, device="cpu", on_rung=lambda point: None)
        assert (record.trained, [p for p in record.curve if "bpb" in p]) == (False, [])


def test_a_run_does_not_go_on_from_the_checkpoint_of_another_recipe(recipe, cache, tmp_path, monkeypatch):
    """Their training is the same, but not what was measured at the rungs."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    recipe, asked = recipe.with_(seed=31), []
    at, _ = interrupting(monkeypatch, "in the second rung")
    with pytest.raises(Interrupted):
        run(recipe, tmp_path / "a", cache, device="cpu", on_rung=at)
    other = recipe.with_(parse("zstd_codec"))
    run(other, tmp_path / "b", cache, device="cpu", on_rung=lambda point: asked.append(point["step"]))
    assert asked == [2, 4, 6, 8]


AT = "2026-11-26T09:00:00.000+00:00"


def test_what_the_search_entered_about_a_stopped_run_is_kept_when_the_run_ends(recipe, cache, tmp_path):
    """The driver writes the record of a run that it stops; the run, which ends later, knows more, but not its number."""

    def stop(point):
        told = Record(recipe.hash, recipe.seed, recipe.name, "pruned", recipe.to_json(), reason="enough", trial=7, started=AT)
        told.save(tmp_path)
        return "enough"

    record = run(recipe, tmp_path, cache, device="cpu", on_rung=stop)
    for told in (record, Record.load(tmp_path)):
        assert (told.state, told.reason, told.trial, told.started) == ("pruned", "enough", 7, AT)
        assert told.machine
        assert told.curve


@pytest.mark.parametrize("end", ["pruned", "failed", "complete"])
def test_no_run_that_ended_leaves_a_checkpoint(recipe, cache, tmp_path, monkeypatch, end):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    if end == "failed":
        honest, losses = loop._gradients, iter([1.0, 1.0, float("nan")])
        monkeypatch.setattr(loop, "_gradients", lambda *a: (honest(*a), next(losses))[1])
    recipe = recipe.with_(seed=32, tokens=8 * BATCH + {"pruned": 0, "failed": BATCH, "complete": 2 * BATCH}[end])
    record = run(recipe, tmp_path, cache, device="cpu", on_rung=lambda point: "no" if end == "pruned" else None)
    assert record.state == end
    assert not list(cache.glob(f"train/*{recipe.hash}.checkpoint"))


# ---------------------------------------------------------------------- numbers that are none


def broken_weights(recipe, value):
    """A training that ends with one weight of this value."""

    def train(part, source, **_):
        weights = {n: p.detach().clone() for n, p in initialize(GPT(part), part).named_parameters()}
        next(w for n, w in weights.items() if n.endswith("resid_mix.weight") or w.dim() == 1).view(-1)[0] = value
        return Trained(weights, {}, tokens=64, seconds=1.0)

    return train


@pytest.mark.parametrize(
    ("value", "words"), [(float("inf"), "NaN or infinity"), (float("nan"), "NaN or infinity"), (1e6, "beyond fp16")]
)
def test_weights_that_no_file_can_hold_leave_a_failed_record_with_the_reason(
    recipe, cache, tmp_path, monkeypatch, value, words
):
    recipe = recipe.with_(seed=33)
    monkeypatch.setattr(train_stage, "train", broken_weights(recipe, value))
    record = run(recipe, tmp_path, tmp_path / "cache", device="cpu")
    assert (record.state, record.bpb) == ("failed", None)
    assert words in record.reason
    assert Record.load(tmp_path) == record


def test_a_score_that_is_no_number_leaves_a_failed_record_and_is_not_kept(recipe, cache, tmp_path, monkeypatch):
    recipe = recipe.with_(seed=34, tokens=4 * BATCH)
    honest = finishing.evaluate

    def spoiled(*arguments, **options):
        score = honest(*arguments, **options)
        return dataclasses.replace(score, bits=score.bits * float("nan"))

    with monkeypatch.context() as patch:
        patch.setattr(finishing, "evaluate", spoiled)
        record = run(recipe, tmp_path / "a", cache, device="cpu")
    assert (record.state, record.bpb, record.bpb_float) == ("failed", None, None)
    assert "scored nan bits per byte" in record.reason
    assert Record.load(tmp_path / "a") == record
    assert run(recipe, None, cache, device="cpu").state == "complete"


def test_a_rung_that_finds_no_finite_weights_ends_the_run(recipe, cache, tmp_path, monkeypatch):
    honest = state.Optimizers.step

    def step(self, multiplier, progress):
        honest(self, multiplier, progress)
        self.spoiled[0].view(-1)[0] = float("inf")

    def begin(self, model, *rest):
        made(self, model, *rest)
        self.spoiled = [p.detach() for n, p in model.named_parameters() if "blocks.0" in n and p.dim() == 2]

    made = state.Optimizers.__init__
    monkeypatch.setattr(state.Optimizers, "__init__", begin)
    monkeypatch.setattr(state.Optimizers, "step", step)
    monkeypatch.setattr(loop, "_gradients", lambda *_: 1.0)
    recipe = recipe.with_(seed=35, tokens=4 * BATCH)
    record = run(recipe, tmp_path, cache, device="cpu", on_rung=lambda point: None)
    assert (record.state, record.reason[:16]) == ("failed", "in mid-training:")
    assert Record.load(tmp_path) == record
