"""What a job does after training: pack the weights, score the artifact, compare other ways to finish the same training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from golflab.model.compression.artifact import unpack
from golflab.model.compression.finish import artifact
from golflab.model.evaluation.score import Score, evaluate
from golflab.model.job.job import Job
from golflab.model.job.request import Request
from golflab.model.network.weights import empty_model, scored_model
from golflab.model.record import Record
from golflab.model.schema import MOST_BPB
from golflab.model.stages import finishing_part, scoring_part
from golflab.model.training.result import Trained, average_key
from golflab.model.ways import collected, compare


class StageFailed(RuntimeError):
    """A stage after training failed; the message says why."""


def pack_weights(job: Job, trained: Trained, record: Record) -> bytes:
    """Average, quantise and pack; return the artifact, and note its size in the record."""
    average = job.recipe.technique_in("average")
    if average is not None and average_key(average) not in trained.averages:
        record.notes.append(f"{average.name} collected nothing; the last weights were exported.")
    job.tell("packing", {})
    with job.timed("pack"):
        if (stored := job.cache.read("pack", job.later["pack"])) is not None:
            blob = stored[0]["blob"].numpy().tobytes()
        else:
            blob = _make_artifact(job, trained.chosen(average))
    record.code_bytes, record.tokenizer_bytes = job.code_bytes, len(job.data.tokenizer.proto)
    record.bytes = len(blob) + record.code_bytes
    return blob


def _make_artifact(job: Job, weights: dict[str, Tensor]) -> bytes:
    part = finishing_part(job.recipe)
    try:
        blob = artifact(part, empty_model(part, job.place.device, job.place.dtype), weights, job.data.train, job.code_bytes)
    except ValueError as error:  # numbers that no file can hold, or for which no rounding is found
        raise StageFailed(str(error)) from error
    job.keep("pack", job.later["pack"], {"blob": torch.frombuffer(bytearray(blob), dtype=torch.uint8)}, {})
    return blob


def stopped_for_size(job: Job, request: Request, trained: Trained, record: Record) -> bool:
    """Report the final size before anything is scored; return whether the run must stop because of it."""
    if request.on_rung is None:
        return False
    point = {"step": trained.tokens // job.recipe.schedule.batch_tokens, "bytes": record.bytes, "trained": record.trained}
    reason = request.on_rung(point | {"tokens": trained.tokens, "seconds": trained.seconds, "progress": 1.0})
    record.state, record.reason = ("pruned", reason) if reason else (record.state, record.reason)
    return bool(reason)


def score_artifact(job: Job, request: Request, trained: Trained, blob: bytes, record: Record) -> Score:
    """Score the weights as the artifact holds them and, for comparison, before they were quantised."""
    # With an adapter, a second scoring can take longer than the training.
    if request.float_score and not any(job.recipe.techniques_in(slot) for slot in ("adapt", "adapt_all")):
        record.bpb_float = _score(job, trained.chosen(job.recipe.technique_in("average")), "float").bpb
    score = _score(job, unpack(blob), "evaluate")
    record.bpb = score.bpb
    record.state = "complete"
    return score


def compare_ways(job: Job, request: Request, trained: Trained) -> list[dict[str, Any]]:
    """Finish the training in the other ways that were asked for, and compare."""
    job.tell("finishing", {})
    with job.timed("finish"):
        model = empty_model(job.recipe, job.place.device, job.place.dtype)
        return compare(job.recipe, trained, model, job.data, collected(request.ways, trained))


def _score(job: Job, weights: dict[str, Tensor], stage: str) -> Score:
    """Score weights on the recipe's split, or find the score in the stage cache.

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
        if not 0 < score.bpb < MOST_BPB:  # false for NaN too
            raise StageFailed(f"the {'artifact' if stage == 'evaluate' else 'weights'} scored {score.bpb} bits per byte")
        job.keep("evaluate", key, *score.to_tensors())
        return score
