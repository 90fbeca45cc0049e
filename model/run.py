"""Recipe to record: the whole story on one page.

prepare data → forecast bytes → train (or find the training) → choose the average → quantise → pack → unpack → evaluate.
Every stage is looked up in the stage cache first; what is scored is always what was unpacked from the packed bytes.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golflab.model.compression.artifact import unpack
from golflab.model.compression.calibration import Calibration
from golflab.model.compression.finish import artifact
from golflab.model.compression.forecast import Forecast, forecast, inventory
from golflab.model.data.batches import repetition
from golflab.model.data.prepare import TokenData, prepared
from golflab.model.evaluation.score import Score, evaluate
from golflab.model.job import Job
from golflab.model.network.gpt import GPT
from golflab.model.network.weights import empty_model, scored_model
from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.model.schema import MOST_BPB
from golflab.model.stages import finishing_part, scoring_part, training_part
from golflab.model.submission.script import code_bytes
from golflab.model.system.device import Place
from golflab.model.system.machine import Conditions, describe
from golflab.model.system.sources import edited
from golflab.model.training.heard import Heard, OnStage, unheard
from golflab.model.training.loop import source_of, train
from golflab.model.training.pace import alike, step_seconds, to_try, tried
from golflab.model.training.result import Trained, TrainingFailed, average_key
from golflab.model.training.rungs import measure
from golflab.model.ways import Way, collected, compare

OnRung = Callable[[dict[str, Any]], str | None]
OnStep = Callable[[dict[str, Any]], None]
Together = Callable[[Recipe, dict[str, Any]], AbstractContextManager[Any]]  # takes what `assist` takes


class StageFailed(RuntimeError):
    """What comes after the training cannot be done with its weights; the message says why."""


def alone(recipe: Recipe, settings: dict[str, Any]) -> AbstractContextManager[None]:
    """Train in this process only."""
    return nullcontext()


def forecast_bytes(recipe: Recipe, calibration: Calibration | None = None) -> Forecast:
    """Packed weights + code of a recipe that was not trained yet, as an interval."""
    return forecast(inventory(recipe), recipe, code_bytes(recipe), calibration)


@dataclass(frozen=True)
class _Asked:
    """What the caller of a run wants to hear, and how it wants it trained."""

    on_rung: OnRung | None = None
    on_step: OnStep | None = None
    micro_tokens: int | None = None
    together: Together = alone
    rungs: bool = True
    float_score: bool = True
    ways: Sequence[Way] = ()


def run(
    recipe: Recipe,
    folder: Path | None,
    cache: Path,
    *,
    on_rung: OnRung | None = None,
    on_step: OnStep | None = None,
    on_stage: OnStage = unheard,
    device: str = "auto",
    compiled: bool | None = None,
    calibration: Calibration | None = None,
    micro_tokens: int | None = None,
    together: Together = alone,
    local_disk: Path | None = None,
    where: Mapping[str, str] | None = None,
    rungs: bool = True,
    float_score: bool = True,
    ways: Sequence[Way] = (),
) -> Record:
    """Do everything a recipe says and leave a record.

    Args:
        recipe: what to do; checked first.
        folder: where the record and the documents' bits go; None writes none.
        cache: the stage cache, shared between runs.
        on_rung: called at each rung with step, tokens, seconds, progress, bpb (on a part of dev), documents (bits per byte of
            each of its stretches) and bytes (really packed), and once more before the evaluation, with the artifact's bytes,
            whether it was trained here, and no bpb; a returned text stops the run for that reason: its record is ``pruned``.
        on_step: called after each point of the training curve.
        on_stage: called with what is at work and how far it is: ``preparing``, ``waiting`` (for another process that does the
            same training), ``compiling`` and ``training`` (at every step: step, and the schedule's steps, seconds and
            batch_tokens), ``measuring`` (at a rung), ``packing``, ``scoring`` (progress, in [0, 1]) and ``finishing`` (in the
            other ways).
        device: ``auto``, ``cpu`` or ``cuda``.
        compiled: use ``torch.compile`` for training; None does on a GPU (on a CPU the proxy earns it back in 800 steps).
        calibration: what finished runs taught the forecast.
        micro_tokens: tokens in flight at once instead of the recipe's, which were too many for the memory.
        together: entered around a training with what `assist` takes, which it has other processes call; it initialises
            ``torch.distributed`` for all of them. By default this process trains alone.
        local_disk: folder of this node's own that token shards are copied to once, and read from.
        where: added to the record's ``machine``: ``nodes``, and ``processes``, how many train together.
        rungs: measure the run at its rungs; without, ``on_rung`` hears only of the finished artifact.
        float_score: score the weights before quantisation too, which takes as long as scoring the artifact.
        ways: what else to finish the training with; the paired differences are the record's ``finishings``.

    Returns:
        The record, ``complete``, ``pruned`` or ``failed`` (the loss, the weights or the score are not finite, or the weights
        cannot be packed).

    Raises:
        ValueError: the recipe, its data or its tokenizer cannot work.
    """
    job = Job.begin(recipe, cache, device, compiled, local_disk, on_stage)
    job.folder, job.processes = folder, int((where or {}).get("processes", "1"))
    asked = _Asked(on_rung, on_step, micro_tokens, together, rungs, float_score, ways)
    return _done(job, asked, forecast_bytes(recipe, calibration), where or {})[0]


def again(recipe: Recipe, cache: Path, earlier: Record, device: str = "auto") -> tuple[Record, bytes]:
    """Make the artifact of a recipe that completed once more, and score it.

    Its training is taken from the stage cache where it still is, however it was trained; else it is trained here.

    Args:
        recipe: of the earlier run.
        cache: the stage cache of its runs.
        earlier: the earlier run's record.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        A record of what was made now, and the packed weights.

    Raises:
        ValueError: it did not complete now.
    """
    job = Job.begin(recipe, cache, device, None)
    job.earlier = Conditions.of_record(earlier.machine)
    record, blob = _done(job, _Asked(), forecast_bytes(recipe), {})
    if blob is None or record.state != "complete":
        raise ValueError(f"recipe {recipe.hash} completed earlier and ended {record.state} now: {record.reason}")
    return record, blob


def _done(job: Job, asked: _Asked, expected: Forecast, where: Mapping[str, str]) -> tuple[Record, bytes | None]:
    """Do everything; the record, and the artifact if it came to that."""
    recipe = job.recipe
    record = Record(recipe.hash, recipe.seed, recipe.name, "failed", recipe.to_json())
    record.machine = describe(job.place, job.compiled) | dict(where) | job.text
    record.bytes_forecast = dict(expected.to_json())
    record.training, record.stages = job.train_key, job.stages
    blob, score = None, None
    try:
        trained = _trained(job, asked)
        _tell_training(record, trained, job)
        if trained.stopped:
            record.state, record.reason = "pruned", trained.stopped
        else:
            blob = _packed(job, trained, record)
            score = None if _refused(job, asked, trained, record) else _evaluated(job, asked, trained, blob, record)
            if score is not None and asked.ways:
                record.finishings = _compared(job, asked, trained)
    except (TrainingFailed, StageFailed) as failure:
        record.reason = str(failure)
    record.notes += [*job.notes, *job.data.facts.get("notes", [])]
    record.notes += repetition(job.data.train, recipe.schedule.batch_tokens, recipe.schedule.tokens)
    record.overlap = job.data.facts.get("overlap", {})
    if names := edited():
        record.notes.append(f"{', '.join(names)}: edited while this process ran; its results are shared with no other")
    if job.folder is not None:
        record.save(job.folder, None if score is None else score.bits, None if score is None else score.bytes)
    job.settle()
    return record, blob


@dataclass(frozen=True)
class Training:
    """A training and what else is needed to finish it in other ways than its recipe says.

    Attributes:
        key: of the training in the stage cache.
        weights: name -> tensor, by the recipe's average; float32 on the CPU.
        model: a `GPT` on the device, ready to take weights.
        data: what it was trained and is scored on.
    """

    key: str
    weights: dict[str, Tensor]
    model: GPT
    data: TokenData


def training(recipe: Recipe, cache: Path, *, on_step: OnStep | None = None, device: str = "auto") -> Training:
    """Train a recipe, or find its training in the stage cache; nothing after training is done.

    Raises:
        ValueError: the recipe, its data or its tokenizer cannot work, or the loss was not finite.
    """
    job = Job.begin(recipe, cache, device, None)
    try:
        trained = _trained(job, _Asked(on_step=on_step))
    except TrainingFailed as failure:
        raise ValueError(f"the training of recipe {recipe.hash} failed: {failure}") from failure
    job.settle()
    model = empty_model(recipe, job.place.device, job.place.dtype)
    return Training(job.training, trained.chosen(recipe.tenant("average")), model, job.data)


def packed(recipe: Recipe, cache: Path, device: str = "auto") -> bytes:
    """The artifact of a run that completed on this kind of device, from the stage cache.

    Raises:
        ValueError: it is not there.
    """
    job = Job.begin(recipe, cache, device, None)
    stored = job.cache.read("train", job.train_key) if recipe.schedule.seconds is not None else None
    job.name_training({} if stored is None else stored[1])
    if (found := job.cache.read("pack", job.later["pack"])) is None:
        raise ValueError(f"{cache} holds no artifact of recipe {recipe.hash}; run it first.")
    return found[0]["blob"].numpy().tobytes()


# ---------------------------------------------------------------------- training


def _trained(job: Job, asked: _Asked) -> Trained:
    """The training, from the stage cache or from scratch (continuing from its checkpoint)."""
    job.tell("waiting", {})
    with job.timed("train"), job.cache.lock("train", job.train_key):
        job.tell("training", {})
        if (stored := job.cache.read("train", job.train_key)) is not None and _serves(job, asked, stored[1]):
            return _found(job, *stored)
        job.notes += _in_flight(job, asked.micro_tokens)
        try:
            done = _train(job, asked, training_part(job.recipe), job.checkpoint)
        except TrainingFailed:
            job.checkpoint.unlink(missing_ok=True)
            raise
        job.trained_here = True
        job.notes += done.notes
        told = {"own": uuid.uuid4().hex if job.recipe.schedule.seconds is not None else ""}
        job.name_training(told)
        if done.stopped:
            job.checkpoint.unlink(missing_ok=True)  # the run is over; asked again, it would be stopped again
        else:
            job.claim()
            tensors, facts = done.to_tensors()
            if job.keep("train", job.train_key, tensors, facts | told | {"micro_tokens": asked.micro_tokens}):
                job.checkpoint.unlink(missing_ok=True)
        return done


def _train(job: Job, asked: _Asked, part: Recipe, checkpoint: Path | None) -> Trained:
    """Train a part of the recipe here, with all processes that train it together."""
    settings: dict[str, Any] = {"dtype": job.place.dtype, "checkpoint": checkpoint, "compiled": job.compiled}
    settings |= {"micro_tokens": asked.micro_tokens}
    seen = part.with_(corpus=job.recipe.data.corpus, tokenizer=job.recipe.data.tokenizer)  # the others open it themselves
    on_rung = functools.partial(_at_rung, job, asked.on_rung) if asked.on_rung and asked.rungs and checkpoint else None
    on_step = asked.on_step if checkpoint else None
    with asked.together(seen, settings | {"fingerprint": job.data.fingerprint}):
        source = Heard(source_of(part, job.data.train), part.schedule, job.tell, job.compiled)
        return train(part, source, device=job.place.device, on_rung=on_rung, on_step=on_step, **settings)


def assist(
    recipe: Recipe, cache: Path, *, fingerprint: str, device: str = "auto", local_disk: Path | None = None, **settings: Any
) -> None:
    """Train along as a further process of a data-parallel run, whose first process keeps what comes of it.

    Args:
        recipe: what is trained: what a training sees of the recipe, and its data.
        cache: the stage cache, the same as the first process's.
        fingerprint: of the first process's data.
        device: ``auto``, ``cpu`` or ``cuda``.
        local_disk: see `run`.
        **settings: of `golflab.model.training.loop.train`, the same as the first process's.

    Raises:
        RuntimeError: this node has other data.
    """
    data = prepared(recipe, cache / "data", local_disk)
    if data.fingerprint != fingerprint:
        raise RuntimeError(f"corpus {recipe.data.corpus!r} is not the same on all nodes; give one that all of them see.")
    train(recipe, source_of(recipe, data.train), device=Place.choose(device).device, **settings)


def _found(job: Job, tensors: dict[str, Tensor], told: dict[str, Any]) -> Trained:
    """A training from the stage cache; what was measured at its rungs belongs to the run that trained it."""
    done = Trained.from_tensors(tensors, told)
    job.name_training(told)
    job.checkpoint.unlink(missing_ok=True)
    job.notes += _in_flight(job, told["micro_tokens"])
    if job.is_own():
        job.trained_here = True
        job.notes += done.notes
    else:
        done.rungs = []
    return done


def _in_flight(job: Job, micro_tokens: int | None) -> list[str]:
    usual = job.recipe.schedule.micro_tokens
    return [] if micro_tokens is None else [f"out of memory at micro_tokens={usual}; ran at {micro_tokens}"]


def _serves(job: Job, asked: _Asked, told: dict[str, Any]) -> bool:
    """Whether a training in the cache is the one this run would do.

    Where seconds bound it, that depends on how much else the machine does, so a few steps are tried: a process that was
    slower or faster than this one has trained on another number of tokens.
    """
    if job.recipe.schedule.seconds is None or job.earlier is not None or job.is_own():
        return True
    part = training_part(job.recipe)
    if (short := to_try(part, told)) is None:
        return False
    try:
        here, there = tried(_train(job, asked, short, None).curve), step_seconds(part, told)
    except TrainingFailed:  # with this shorter schedule; it says nothing of the whole one
        return False
    if not alike(here, there):
        job.notes.append(f"the training in the cache took {there:.3g} s a step, this process takes {here:.3g}; trained anew")
    return alike(here, there)


def _at_rung(job: Job, on_rung: OnRung, point: dict[str, Any], model: GPT) -> str | None:
    """Measure a run in progress and ask what to do."""
    job.tell("measuring", {})
    documents = job.data.split(job.recipe.data.split)
    counts = job.data.counts.get(job.recipe.data.split)
    measured, shares = measure(job.recipe, model, documents, job.data.tokenizer, job.code_bytes, counts)
    point |= measured
    return on_rung(point | {"documents": shares})


def _tell_training(record: Record, trained: Trained, job: Job) -> None:
    record.trained, record.training = job.trained_here, job.training
    record.tokens, record.seconds = trained.tokens, round(trained.seconds, 3)
    record.tokens_per_second = round(trained.tokens / max(trained.seconds, 1e-9), 1)
    record.curve = trained.curve + trained.rungs
    record.parameters = sum(w.numel() for w in trained.weights.values())
    record.machine |= {"compiled": "yes" if trained.graphs else "no", "graphs": str(trained.graphs)}


# ---------------------------------------------------------------------- what comes after it


def _packed(job: Job, trained: Trained, record: Record) -> bytes:
    """Average, quantise, pack: the artifact, and its size in the record."""
    average = job.recipe.tenant("average")
    if average is not None and average_key(average) not in trained.averages:
        record.notes.append(f"{average.name} collected nothing; the last weights were exported.")
    job.tell("packing", {})
    with job.timed("pack"):
        if (stored := job.cache.read("pack", job.later["pack"])) is not None:
            blob = stored[0]["blob"].numpy().tobytes()
        else:
            blob = _artifact(job, trained.chosen(average))
    record.code_bytes, record.tokenizer_bytes = job.code_bytes, len(job.data.tokenizer.proto)
    record.bytes = len(blob) + record.code_bytes
    return blob


def _artifact(job: Job, weights: dict[str, Tensor]) -> bytes:
    part = finishing_part(job.recipe)
    try:
        blob = artifact(part, empty_model(part, job.place.device, job.place.dtype), weights, job.data.train, job.code_bytes)
    except ValueError as error:  # numbers that no file can hold, or that no rounding can be found for
        raise StageFailed(str(error)) from error
    job.keep("pack", job.later["pack"], {"blob": torch.frombuffer(bytearray(blob), dtype=torch.uint8)}, {})
    return blob


def _refused(job: Job, asked: _Asked, trained: Trained, record: Record) -> bool:
    """Tell the finished size before anything is scored, and whether the run is to stop for it."""
    if asked.on_rung is None:
        return False
    told = {"step": trained.tokens // job.recipe.schedule.batch_tokens, "bytes": record.bytes, "trained": record.trained}
    reason = asked.on_rung(told | {"tokens": trained.tokens, "seconds": trained.seconds, "progress": 1.0})
    record.state, record.reason = ("pruned", reason) if reason else (record.state, record.reason)
    return bool(reason)


def _evaluated(job: Job, asked: _Asked, trained: Trained, blob: bytes, record: Record) -> Score:
    """Score the weights as the artifact holds them and, for comparison, before they were quantised."""
    # An adapter can take longer to score a second time than the training took.
    if asked.float_score and job.recipe.tenant("adapt") is None:
        record.bpb_float = _scored(job, trained.chosen(job.recipe.tenant("average")), "float").bpb
    score = _scored(job, unpack(blob), "evaluate")
    record.bpb = score.bpb
    record.state = "complete"
    return score


def _compared(job: Job, asked: _Asked, trained: Trained) -> list[dict[str, Any]]:
    """Compare what else the training could have been finished with."""
    job.tell("finishing", {})
    with job.timed("finish"):
        model = empty_model(job.recipe, job.place.device, job.place.dtype)
        return compare(job.recipe, trained, model, job.data, collected(asked.ways, trained))


def _scored(job: Job, weights: dict[str, Tensor], stage: str) -> Score:
    """Score weights on the recipe's split, or find the score.

    Raises:
        StageFailed: they cannot be scored, or what they predict is not finite.
    """
    part, key = scoring_part(job.recipe), job.later[stage]
    job.tell("scoring", {})
    with job.timed("evaluate"):
        if (stored := job.cache.read("evaluate", key)) is not None:
            return Score.from_tensors(*stored)
        model = scored_model(part, weights, job.place.device, job.place.dtype)
        documents, resume = job.data.split(job.recipe.data.split), job.cache.path("evaluate", key, "partial")
        counts = job.data.counts.get(job.recipe.data.split)
        try:
            score = evaluate(model, documents, job.data.tokenizer, part, progress=job.scored, resume=resume, counts=counts)
        except ValueError as error:
            raise StageFailed(str(error)) from error
        if not 0 < score.bpb < MOST_BPB:  # nor is NaN
            raise StageFailed(f"the {'artifact' if stage == 'evaluate' else 'weights'} scored {score.bpb} bits per byte")
        job.keep("evaluate", key, *score.to_tensors())
        return score
