"""The train stage of a job: the training is found in the stage cache, or done here."""

from __future__ import annotations

import functools
import uuid
from pathlib import Path
from typing import Any

from torch import Tensor

from golflab.model.job.job import Job
from golflab.model.job.request import OnRung, Request
from golflab.model.network.gpt import GPT
from golflab.model.recipe import Recipe
from golflab.model.stages import training_part
from golflab.model.training.loop import source_of, train
from golflab.model.training.pace import is_same_pace, measured_step_seconds, short_training, step_seconds
from golflab.model.training.reporting import ReportingSource
from golflab.model.training.result import Trained, TrainingFailed
from golflab.model.training.rungs import measure


def train_or_find(job: Job, request: Request) -> Trained:
    """The training, from the stage cache or from scratch (continuing from its checkpoint)."""
    job.tell("waiting", {})
    with job.timed("train"), job.cache.lock("train", job.train_key):
        job.tell("training", {})
        if (stored := job.cache.read("train", job.train_key)) is not None and _is_usable(job, request, stored[1]):
            return _from_cache(job, *stored)
        job.notes += _memory_note(job, request.micro_tokens)
        try:
            done = _train(job, request, training_part(job.recipe), job.checkpoint)
        except TrainingFailed:
            job.checkpoint.unlink(missing_ok=True)
            raise
        job.trained_here = True
        job.notes += done.notes
        own = {"own": uuid.uuid4().hex if job.recipe.schedule.seconds is not None else ""}
        job.name_training(own)
        if done.stopped:
            job.checkpoint.unlink(missing_ok=True)  # the run is over; a new one would be stopped again
        else:
            job.claim()
            tensors, facts = done.to_tensors()
            if job.keep("train", job.train_key, tensors, facts | own | {"micro_tokens": request.micro_tokens}):
                job.checkpoint.unlink(missing_ok=True)
        return done


def _train(job: Job, request: Request, part: Recipe, checkpoint: Path | None) -> Trained:
    """Train a part of the recipe, with all processes that train it together."""
    settings: dict[str, Any] = {"dtype": job.place.dtype, "checkpoint": checkpoint, "compiled": job.compiled}
    settings |= {"micro_tokens": request.micro_tokens}
    # The other processes open the data themselves.
    seen = part.with_(corpus=job.recipe.data.corpus, tokenizer=job.recipe.data.tokenizer)
    on_rung = None
    if request.on_rung is not None and request.rungs and checkpoint is not None:
        on_rung = functools.partial(_measure_rung, job, request.on_rung)
    on_step = None if checkpoint is None else request.on_step
    with request.together(seen, settings | {"fingerprint": job.data.fingerprint}):
        source = ReportingSource(source_of(part, job.data.train), part.schedule, job.tell, job.compiled)
        return train(part, source, device=job.place.device, on_rung=on_rung, on_step=on_step, **settings)


def _from_cache(job: Job, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Trained:
    """A training from the stage cache. Measurements at its rungs belong to the run that trained it, so other runs drop them."""
    done = Trained.from_tensors(tensors, facts)
    job.name_training(facts)
    job.checkpoint.unlink(missing_ok=True)
    job.notes += _memory_note(job, facts["micro_tokens"])
    if job.is_own():
        job.trained_here = True
        job.notes += done.notes
    else:
        done.rungs = []
    return done


def _memory_note(job: Job, micro_tokens: int | None) -> list[str]:
    usual = job.recipe.schedule.micro_tokens
    return [] if micro_tokens is None else [f"out of memory at micro_tokens={usual}; ran at {micro_tokens}"]


def _is_usable(job: Job, request: Request, facts: dict[str, Any]) -> bool:
    """Whether a cached training can be used for this run.

    If it was bounded by seconds, that depends on the load of the machine, so a few steps are tried: a process that was slower
    or faster than this one trained on another number of tokens.
    """
    if job.recipe.schedule.seconds is None or job.earlier is not None or job.is_own():
        return True
    part = training_part(job.recipe)
    if (short := short_training(part, facts)) is None:
        return False
    try:
        here, there = measured_step_seconds(_train(job, request, short, None).curve), step_seconds(part, facts)
    except TrainingFailed:  # the shorter schedule failed, which says nothing about the whole one
        return False
    if not is_same_pace(here, there):
        job.notes.append(f"the training in the cache took {there:.3g} s a step, this process takes {here:.3g}; trained anew")
    return is_same_pace(here, there)


def _measure_rung(job: Job, on_rung: OnRung, point: dict[str, Any], model: GPT) -> str | None:
    """Measure a run at a rung, and ask whether it must stop."""
    job.tell("measuring", {})
    documents = job.data.split(job.recipe.data.split)
    counts = job.data.counts.get(job.recipe.data.split)
    measured, shares = measure(job.recipe, model, documents, job.data.tokenizer, job.code_bytes, counts)
    point |= measured
    return on_rung(point | {"documents": shares})
