"""From recipe to record: the whole story on one page.

prepare data → forecast bytes → train (or find the training) → choose the average → quantise → pack → unpack → evaluate.
Every stage is looked up in the stage cache first (`golflab.model.job`). The weights that are scored are always those unpacked
from the packed bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from golflab.model.compression.calibration import Calibration
from golflab.model.compression.forecast import Forecast, forecast, inventory
from golflab.model.data.batches import repetition
from golflab.model.data.prepare import TokenData, prepared
from golflab.model.job.finishing import StageFailed, compare_ways, pack_weights, score_artifact, stopped_for_size
from golflab.model.job.job import Job
from golflab.model.job.request import OnRung, OnStep, Request, Together, alone
from golflab.model.job.training import train_or_find
from golflab.model.network.gpt import GPT
from golflab.model.network.weights import empty_model
from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.model.submission.script import code_bytes
from golflab.model.system.device import Place
from golflab.model.system.machine import Conditions, describe
from golflab.model.system.sources import edited
from golflab.model.training.loop import source_of, train
from golflab.model.training.reporting import OnStage, no_report
from golflab.model.training.result import Trained, TrainingFailed
from golflab.model.ways import Way


def forecast_bytes(recipe: Recipe, calibration: Calibration | None = None) -> Forecast:
    """Forecast of the size, code included, of a recipe that was not trained yet."""
    return forecast(inventory(recipe), recipe, code_bytes(recipe), calibration)


def run(
    recipe: Recipe,
    folder: Path | None,
    cache: Path,
    *,
    on_rung: OnRung | None = None,
    on_step: OnStep | None = None,
    on_stage: OnStage = no_report,
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
    """Run a recipe and return its record.

    Args:
        recipe: what to run; it is checked first.
        folder: where the record and the documents' bits go; None writes none.
        cache: folder of the stage cache, which runs share.
        on_rung: called at each rung with step, tokens, seconds, progress, bpb (on a part of dev), documents (bits per byte of
            each of its stretches) and bytes (really packed), and once more before the evaluation, with the artifact's bytes,
            whether it was trained here, and no bpb; a returned text stops the run for that reason: its record is ``pruned``.
        on_step: called after each point of the training curve.
        on_stage: called with the present stage and how far it is: ``preparing``, ``waiting`` (for another process that does the
            same training), ``compiling`` and ``training`` (at every step: step, and the schedule's steps, seconds and
            batch_tokens), ``measuring`` (at a rung), ``packing``, ``scoring`` (progress, in [0, 1]) and ``finishing`` (in the
            other ways).
        device: ``auto``, ``cpu`` or ``cuda``.
        compiled: use ``torch.compile`` for training; None does so on a GPU, if the run has 1,000 steps or is bounded by seconds
            alone (on a CPU it pays off after 800 steps of the proxy).
        calibration: of the forecast, learned from finished runs.
        micro_tokens: tokens per forward pass, where the recipe's own number needs too much memory.
        together: entered around a training with what `assist` takes, which it has other processes call; it initialises
            ``torch.distributed`` for all of them. By default this process trains alone.
        local_disk: folder on this node's own disk, to which token shards are copied once.
        where: added to the record's ``machine``: ``nodes``, and ``processes``, how many train together.
        rungs: measure the run at its rungs; if false, ``on_rung`` is called only for the finished artifact.
        float_score: score the weights before quantisation too, which takes as long as scoring the artifact.
        ways: other ways to finish the training; the paired differences are the record's ``finishings``.

    Returns:
        The record, ``complete``, ``pruned`` or ``failed`` (the loss, the weights or the score are not finite, or the weights
        cannot be packed).

    Raises:
        ValueError: the recipe, its data or its tokenizer cannot work.
    """
    job = Job.begin(recipe, cache, device, compiled, local_disk, on_stage)
    job.folder, job.processes = folder, int((where or {}).get("processes", "1"))
    request = Request(on_rung, on_step, micro_tokens, together, rungs, float_score, ways)
    return _done(job, request, forecast_bytes(recipe, calibration), where or {})[0]


def again(recipe: Recipe, cache: Path, earlier: Record, device: str = "auto") -> tuple[Record, bytes]:
    """Make and score the artifact of a recipe that has completed before.

    Its training is taken from the stage cache, whatever its conditions were; if it is not there, it is trained here.

    Args:
        recipe: of the earlier run.
        cache: the stage cache of its runs.
        earlier: the earlier run's record.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        A record of what was made now, and the packed weights.

    Raises:
        ValueError: it did not complete this time.
    """
    job = Job.begin(recipe, cache, device, None)
    job.earlier = Conditions.of_record(earlier.machine)
    record, blob = _done(job, Request(), forecast_bytes(recipe), {})
    if blob is None or record.state != "complete":
        raise ValueError(f"recipe {recipe.hash} completed earlier and ended {record.state} now: {record.reason}")
    return record, blob


def _done(job: Job, request: Request, expected: Forecast, where: Mapping[str, str]) -> tuple[Record, bytes | None]:
    """Run all stages; return the record, and the artifact if there is one."""
    recipe = job.recipe
    record = Record(recipe.hash, recipe.seed, recipe.name, "failed", recipe.to_json())
    record.machine = describe(job.place, job.compiled) | dict(where) | job.text
    record.bytes_forecast = dict(expected.to_json())
    record.training, record.stages = job.train_key, job.stages
    blob, score = None, None
    try:
        trained = train_or_find(job, request)
        _tell_training(record, trained, job)
        if trained.stopped:
            record.state, record.reason = "pruned", trained.stopped
        else:
            blob = pack_weights(job, trained, record)
            if not stopped_for_size(job, request, trained, record):
                score = score_artifact(job, request, trained, blob, record)
                record.finishings = compare_ways(job, request, trained) if request.ways else []
    except (TrainingFailed, StageFailed) as failure:
        record.reason = str(failure)
    record.notes += [*job.notes, *job.data.facts.get("notes", [])]
    record.notes += repetition(job.data.train, recipe.schedule.batch_tokens, recipe.schedule.tokens)
    record.overlap = job.data.facts.get("overlap", {})
    if names := edited():
        record.notes.append(f"{', '.join(names)}: edited while this process ran; its results are shared with no other")
    if job.folder is not None:
        record = record.with_what_the_search_added(Record.read(job.folder))  # it has entered a run that it stopped
        record.save(job.folder, None if score is None else score.bits, None if score is None else score.bytes)
    job.settle()
    return record, blob


@dataclass(frozen=True)
class Training:
    """A training, and what is needed to finish it in other ways than its recipe's.

    Attributes:
        key: of the training in the stage cache.
        weights: name -> tensor, of the recipe's average; float32 on the CPU.
        model: a `GPT` on the device, into which weights can be loaded.
        data: on which it was trained and is scored.
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
        trained = train_or_find(job, Request(on_step=on_step))
    except TrainingFailed as failure:
        raise ValueError(f"the training of recipe {recipe.hash} failed: {failure}") from failure
    job.settle()
    model = empty_model(recipe, job.place.device, job.place.dtype)
    return Training(job.training, trained.chosen(recipe.technique_in("average")), model, job.data)


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


def _tell_training(record: Record, trained: Trained, job: Job) -> None:
    record.trained, record.training = job.trained_here, job.training
    record.tokens, record.seconds = trained.tokens, round(trained.seconds, 3)
    record.tokens_per_second = round(trained.tokens / max(trained.seconds, 1e-9), 1)
    record.curve = trained.curve + trained.rungs
    record.parameters = sum(w.numel() for w in trained.weights.values())
    record.machine |= {"compiled": "yes" if trained.graphs else "no", "graphs": str(trained.graphs)}


def assist(
    recipe: Recipe, cache: Path, *, fingerprint: str, device: str = "auto", local_disk: Path | None = None, **settings: Any
) -> None:
    """Train as a further process of a data-parallel run; its first process keeps the result.

    Args:
        recipe: as a training sees it, with its data.
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
