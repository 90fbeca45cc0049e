"""Recipe to record: the whole story on one page.

prepare data → forecast bytes → train (or find the training) → choose the average → quantise → pack → unpack → evaluate.
Every stage is looked up in the stage cache first; what is scored is always what was unpacked from the packed bytes.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.artifact import pack, unpack
from model.calibration import Calibration
from model.evaluate import Score, evaluate
from model.forecast import Forecast, forecast, inventory
from model.gpt import GPT
from model.layers import parameters_of
from model.place import Place
from model.quantize import quantise
from model.recipe import Recipe
from model.record import Record
from model.script import code_bytes, script
from model.stages import Cache, stage_keys
from model.tokens import TokenData, prepare
from model.train import Source, Trained, TrainingFailed, average_key, riding, train
from model.ways import Way, collected, compare

RUNG_TOKENS = 16_384  # dev text scored at a rung
RUNG_STRETCH = 1_024  # of which this many make a document, so that a few long ones still give pairs to compare
OnRung = Callable[[dict[str, Any]], str | None]
OnStep = Callable[[dict[str, Any]], None]
Together = Callable[[Recipe, dict[str, Any]], AbstractContextManager[Any]]  # takes what `assist` takes


def alone(recipe: Recipe, settings: dict[str, Any]) -> AbstractContextManager[None]:
    """Train in this process only."""
    return nullcontext()


def forecast_bytes(recipe: Recipe, calibration: Calibration | None = None) -> Forecast:
    """Packed weights + code of a recipe that was not trained yet, as an interval."""
    return forecast(inventory(recipe), recipe, code_bytes(recipe), calibration)


@dataclass
class _Job:
    """One run in progress."""

    recipe: Recipe
    cache: Cache
    place: Place
    data: TokenData
    keys: dict[str, str]
    on_rung: OnRung | None
    on_step: OnStep | None
    compiled: bool
    micro_tokens: int | None = None
    together: Together = alone
    rungs_measured: bool = True
    float_scored: bool = True
    ways: Sequence[Way] = ()
    stages: dict[str, float] = field(default_factory=dict)
    rungs: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    trained_here: bool = False

    @contextmanager
    def timed(self, stage: str) -> Any:
        """Add the seconds spent inside to the stage's."""
        start = time.perf_counter()
        yield
        self.stages[stage] = round(self.stages.get(stage, 0.0) + time.perf_counter() - start, 3)


def run(
    recipe: Recipe,
    folder: Path | None,
    cache: Path,
    *,
    on_rung: OnRung | None = None,
    on_step: OnStep | None = None,
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
        device: ``auto``, ``cpu`` or ``cuda``.
        compiled: use ``torch.compile`` for training; None does on a GPU (on a CPU the proxy earns it back in 800 steps).
        calibration: what finished runs taught the forecast.
        micro_tokens: tokens in flight at once instead of the recipe's, which were too many for the memory.
        together: entered around a training with what `assist` takes, which it has other processes call; it initialises
            ``torch.distributed`` for all of them. By default this process trains alone.
        local_disk: folder of this node's own that token shards are copied to once, and read from.
        where: added to the record's ``machine``: nodes, processes.
        rungs: measure the run at its rungs; without, ``on_rung`` hears only of the finished artifact.
        float_score: score the weights before quantisation too, which takes as long as scoring the artifact.
        ways: what else to finish the training with; the paired differences are the record's ``finishings``.

    Returns:
        The record, ``complete``, ``pruned`` or ``failed`` (the loss was not finite).

    Raises:
        ValueError: the recipe, its data or its tokenizer cannot work.
    """
    job = _begun(recipe, cache, device, compiled, on_rung, on_step, local_disk)
    job.micro_tokens, job.together = micro_tokens, together
    job.rungs_measured, job.float_scored, job.ways = rungs, float_score, ways
    record = Record(recipe.hash, recipe.seed, recipe.name, "failed", recipe.to_json())
    record.machine = job.place.machine() | dict(where or {})
    if micro_tokens is not None:
        record.notes.append(f"out of memory at micro_tokens={recipe.schedule.micro_tokens}; ran at {micro_tokens}")
    record.bytes_forecast = dict(forecast_bytes(recipe, calibration).to_json())
    record.training, record.stages = job.keys["train"], job.stages
    score = None
    try:
        trained = _trained(job)
        _tell_training(record, trained, job)
        if trained.stopped:
            record.state, record.reason = "pruned", trained.stopped
        else:
            blob = _packed(job, trained, record)
            score = None if _refused(job, trained, record) else _evaluated(job, trained, blob, record)
            if score is not None and job.ways:
                record.finishings = _finished(job, trained)
    except TrainingFailed as failure:
        record.reason = str(failure)
    record.notes += job.notes
    if folder is not None:
        record.save(folder, None if score is None else score.bits, None if score is None else score.bytes)
    return record


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
    job = _begun(recipe, cache, device, None, None, on_step)
    try:
        trained = _trained(job)
    except TrainingFailed as failure:
        raise ValueError(f"the training of recipe {recipe.hash} failed: {failure}") from failure
    return Training(job.keys["train"], trained.chosen(recipe.tenant("average")), _empty_model(job), job.data)


def _begun(
    recipe: Recipe,
    cache: Path,
    device: str,
    compiled: bool | None,
    on_rung: OnRung | None,
    on_step: OnStep | None,
    local_disk: Path | None = None,
) -> _Job:
    """Check the recipe and prepare its data."""
    recipe.check()
    place, started = Place.choose(device), time.perf_counter()
    data = prepare(recipe.data, recipe.shape.vocabulary, cache / "data", local_disk)
    compiled = place.device.type == "cuda" if compiled is None else compiled
    job = _Job(recipe, Cache(cache), place, data, _keys(recipe, data, place), on_rung, on_step, compiled)
    job.stages["prepare"] = round(time.perf_counter() - started, 3)
    return job


def _empty_model(job: _Job) -> GPT:
    model = GPT(job.recipe, job.place.dtype).to(job.place.device)
    model.set_progress(1.0)
    return model


def _keys(recipe: Recipe, data: TokenData, place: Place) -> dict[str, str]:
    usual = riding(recipe.without(own.name) if (own := recipe.tenant("average")) else recipe)
    extra = [t for t in riding(recipe) if t not in usual]
    return stage_keys(recipe, data.fingerprint, place.dtype, extra)


def packed(recipe: Recipe, cache: Path, device: str = "auto") -> bytes:
    """The artifact of a run that completed on this kind of device, from the stage cache.

    Raises:
        ValueError: it is not there.
    """
    data = prepare(recipe.data, recipe.shape.vocabulary, cache / "data")
    stored = Cache(cache).read("pack", _keys(recipe, data, Place.choose(device))["pack"])
    if stored is None:
        raise ValueError(f"{cache} holds no artifact of recipe {recipe.hash}; run it first.")
    return stored[0]["blob"].numpy().tobytes()


def _tell_training(record: Record, trained: Trained, job: _Job) -> None:
    record.trained = job.trained_here
    record.tokens, record.seconds = trained.tokens, round(trained.seconds, 3)
    record.tokens_per_second = round(trained.tokens / max(trained.seconds, 1e-9), 1)
    record.curve = trained.curve + job.rungs
    record.parameters = sum(w.numel() for w in trained.weights.values())


def _packed(job: _Job, trained: Trained, record: Record) -> bytes:
    """Average, quantise, pack: the artifact, and its size in the record."""
    average = job.recipe.tenant("average")
    if average is not None and average_key(average) not in trained.averages:
        record.notes.append(f"{average.name} collected nothing; the last weights were exported.")
    blob = artifact(job, _empty_model(job), trained.chosen(average))
    record.code_bytes = len(script(job.recipe))
    record.bytes = len(blob) + record.code_bytes
    return blob


def _refused(job: _Job, trained: Trained, record: Record) -> bool:
    """Tell the finished size before anything is scored, and whether the run is to stop for it."""
    if job.on_rung is None:
        return False
    told = {"step": trained.tokens // job.recipe.schedule.batch_tokens, "bytes": record.bytes, "trained": record.trained}
    reason = job.on_rung(told | {"tokens": trained.tokens, "seconds": trained.seconds, "progress": 1.0})
    record.state, record.reason = ("pruned", reason) if reason else (record.state, record.reason)
    return bool(reason)


def _evaluated(job: _Job, trained: Trained, blob: bytes, record: Record) -> Score:
    """Score the weights as the artifact holds them and, for comparison, before they were quantised."""
    recipe, model = job.recipe, _empty_model(job)
    if job.float_scored and recipe.tenant("adapt") is None:  # with it, scoring a second time can cost more than the training
        record.bpb_float = _scored(job, model, trained.chosen(recipe.tenant("average")), "float").bpb
    score = _scored(job, model, unpack(blob), "evaluate")
    record.bpb = score.bpb
    record.state = "complete"
    return score


def _finished(job: _Job, trained: Trained) -> list[dict[str, Any]]:
    """Compare what else the training could have been finished with."""
    with job.timed("finish"):
        ways = collected(job.ways, trained)
        return compare(job.recipe, trained, _empty_model(job), job.data, ways)


def _trained(job: _Job) -> Trained:
    """The training, from the stage cache or from scratch (continuing from its checkpoint)."""
    recipe, key = job.recipe, job.keys["train"]
    checkpoint = job.cache.path("train", key, "checkpoint")
    with job.timed("train"), job.cache.lock("train", key):
        if (stored := job.cache.read("train", key)) is not None:
            return _read_trained(*stored)
        settings: dict[str, Any] = {
            "dtype": job.place.dtype,
            "checkpoint": checkpoint,
            "compiled": job.compiled,
            "micro_tokens": job.micro_tokens,
        }
        with job.together(recipe, settings | {"fingerprint": job.data.fingerprint}):
            on_rung = functools.partial(_at_rung, job) if job.on_rung and job.rungs_measured else None
            done = train(
                recipe, _source(recipe, job.data), device=job.place.device, on_rung=on_rung, on_step=job.on_step, **settings
            )
        job.trained_here = True
        job.notes += done.notes
        if not done.stopped:
            tensors = {f"last.{n}": w for n, w in done.weights.items()}
            for i, weights in enumerate(done.averages.values()):
                tensors |= {f"{i}.{n}": w for n, w in weights.items()}
            told = {"averages": list(done.averages), "curve": done.curve, "tokens": done.tokens, "seconds": done.seconds}
            if _keep(job, "train", key, tensors, told):
                checkpoint.unlink(missing_ok=True)
        return done


def assist(
    recipe: Recipe, cache: Path, *, fingerprint: str, device: str = "auto", local_disk: Path | None = None, **settings: Any
) -> None:
    """Train along as a further process of a data-parallel run, whose first process keeps what comes of it.

    Args:
        recipe: what is trained.
        cache: the stage cache, the same as the first process's.
        fingerprint: of the first process's data.
        device: ``auto``, ``cpu`` or ``cuda``.
        local_disk: see `run`.
        **settings: of `model.train.train`, the same as the first process's.

    Raises:
        RuntimeError: this node has other data.
    """
    data = prepare(recipe.data, recipe.shape.vocabulary, cache / "data", local_disk)
    if data.fingerprint != fingerprint:
        raise RuntimeError(f"corpus {recipe.data.corpus!r} is not the same on all nodes; give one that all of them see.")
    train(recipe, _source(recipe, data), device=Place.choose(device).device, **settings)


def _source(recipe: Recipe, data: TokenData) -> Source:
    batches: Any = recipe.tenant("batches")
    return batches.build(recipe.shape)(data.train, recipe.schedule.batch_tokens, recipe.seed)


def _keep(job: _Job, stage: str, key: str, tensors: dict[str, Tensor], told: dict[str, Any]) -> bool:
    """Put a stage's result into the cache, if that works: a disk that is full costs the entry, not the run."""
    try:
        job.cache.write(stage, key, tensors, told)
    except OSError as error:
        job.notes.append(f"the result of stage {stage!r} could not be kept: {error.strerror}")
        return False
    return True


def _read_trained(tensors: dict[str, Tensor], told: dict[str, Any]) -> Trained:
    sets: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        which, _, parameter = name.partition(".")
        sets.setdefault(which, {})[parameter] = tensor
    averages = {key: sets[str(i)] for i, key in enumerate(told["averages"])}
    return Trained(sets["last"], averages, told["curve"], told["tokens"], told["seconds"])


def _at_rung(job: _Job, point: dict[str, Any], model: GPT) -> str | None:
    """Measure a run in progress: really quantise and pack its weights, score a part of dev, and ask what to do."""
    assert job.on_rung is not None
    weights = {name: p.detach() for name, p in model.named_parameters()}
    # Plain rounding and plain scoring: Hessians and adapters cost more than the run's next steps, and change bytes by little.
    plain = dataclasses.replace(
        job.recipe, techniques=tuple(t for t in job.recipe.techniques if t.slot != "rounding" and t.stage() != "evaluate")
    )
    blob = pack(quantise(weights, parameters_of(model), plain), plain)
    score = evaluate(model, _stretches(job.data.split(job.recipe.data.split)), job.data.tokenizer, plain)
    point |= {"bpb": score.bpb, "bytes": len(blob) + code_bytes(job.recipe)}
    job.rungs.append(point)
    bits_per_byte = score.bits / np.maximum(score.bytes, 1)
    return job.on_rung(point | {"documents": [round(float(b), 6) for b in bits_per_byte]})


def _stretches(documents: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The first `RUNG_TOKENS` of a split, cut into short documents that each begin with BOS."""
    found, left = [], RUNG_TOKENS
    for document in documents:
        for start in range(0, len(document) - 1, RUNG_STRETCH):
            found.append(np.concatenate([document[:1], document[start + 1 : start + 1 + min(RUNG_STRETCH, left)]]))
            left -= len(found[-1]) - 1
            if left <= 0:
                return found
    return found


def artifact(job: _Job, model: GPT, weights: dict[str, Tensor]) -> bytes:
    """The packed weights, from the stage cache or made now."""
    recipe, key = job.recipe, job.keys["pack"]
    with job.timed("pack"):
        if (stored := job.cache.read("pack", key)) is not None:
            return stored[0]["blob"].numpy().tobytes()
        load_weights(model, weights)
        quantised = quantise(weights, parameters_of(model), recipe, _hessians(job, model))
        blob = pack(quantised, recipe)
        _keep(job, "pack", key, {"blob": torch.frombuffer(bytearray(blob), dtype=torch.uint8)}, {})
        return blob


def _hessians(job: _Job, model: GPT) -> dict[str, Tensor] | None:
    """What the rounding needs to know about each matrix's inputs, if it needs anything."""
    rounding: Any = job.recipe.tenant("rounding")
    return rounding.calibrate(model, job.data.train, job.recipe) if hasattr(rounding, "calibrate") else None


def _scored(job: _Job, model: GPT, weights: dict[str, Tensor], stage: str) -> Score:
    """Score weights on the recipe's split, or find the score."""
    recipe, resume = job.recipe, job.cache.path("evaluate", job.keys[stage], "partial")
    with job.timed("evaluate"):
        if (stored := job.cache.read("evaluate", job.keys[stage])) is not None:
            return Score.from_tensors(*stored)
        load_weights(model, weights)
        score = evaluate(model, job.data.split(recipe.data.split), job.data.tokenizer, recipe, resume=resume)
        _keep(job, "evaluate", job.keys[stage], *score.to_tensors())
        return score


def load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy float weights by name into a model, on whatever device it is."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
