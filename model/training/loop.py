"""The training loop. One process or several that train together: the mathematics is the same."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from golflab.model.recipe import Recipe
from golflab.model.training import process_group
from golflab.model.training.compiled import Forward, compile_all, compiling
from golflab.model.training.result import Trained, TrainingFailed
from golflab.model.training.state import TrainingState

CURVE_POINTS = 100
CHECKPOINT_SECONDS = 20.0


class Source(Protocol):
    """What the slot ``batches`` provides: any step's batch, so that a run resumes anywhere."""

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor]:
        """This process's inputs and targets (rows, T) of a step."""


def train(
    recipe: Recipe,
    source: Source,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    checkpoint: Path | None = None,
    on_rung: Callable[[dict[str, Any], nn.Module], str | None] | None = None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    compiled: bool = False,
    micro_tokens: int | None = None,
) -> Trained:
    """Train the recipe's model from its seed, or from ``checkpoint`` where it exists.

    If ``torch.distributed`` is initialised, every process trains on its share of each batch and gradients are averaged. The
    first process writes the checkpoints, calls ``on_rung`` and decides for all.

    Args:
        recipe: what to train.
        source: the batches.
        device: where to train.
        dtype: type of activations and matrix products; weights and optimizer state are float32.
        checkpoint: file to continue from and to write every `CHECKPOINT_SECONDS`; None for neither.
        on_rung: called at each rung (`golflab.model.training.state.RUNGS`) with the point and the model; a returned text
            stops the run for that reason.
        on_step: called after each point of the curve.
        compiled: run the model through ``torch.compile``; compiling happens before the clock starts.
        micro_tokens: tokens per forward pass, where the recipe's own number needs too much memory; None keeps that.

    Raises:
        TrainingFailed: the loss is not finite.
    """
    run = TrainingState(recipe, torch.device(device), dtype)
    if checkpoint is not None:
        run.load(checkpoint)
    with contextlib.ExitStack() as until_the_end:
        parts = _step_parts(run, source, micro_tokens, compiled, until_the_end)
        curve_interval = max(1, (recipe.schedule.steps or 1000) // CURVE_POINTS)
        last_saved, stopped = time.monotonic(), ""
        run.clock.start()  # loading and compiling do not count as training
        while True:
            if run.due() and (stopped := _asked(run, on_rung)):
                break
            if (progress := run.progress()) >= 1.0:
                break
            _step(run, parts, progress)
            if run.step % curve_interval == 0:
                _mark(run, on_step)
            if (
                checkpoint is not None
                and process_group.from_first(time.monotonic() - last_saved, run.device) > CHECKPOINT_SECONDS
            ):
                with run.clock.paused():
                    run.save(checkpoint)
                last_saved = time.monotonic()
        if run.losses and not stopped:
            _mark(run, on_step)
        with run.clock.paused():
            return run.result(stopped)


@dataclass(frozen=True)
class StepParts:
    """What every step of a training uses and no step replaces.

    Attributes:
        forward: ids and targets (rows, T) -> mean loss in nats; the model, compiled or not.
        source: where the batches come from.
        schedule: progress in [0, 1] -> multiplier of the learning rates.
        growth: how long training sequences are, and a second multiplier; None where they are all of T positions.
        clip: clips the gradients of all parameters; None where the recipe clips none.
        fake: the controller of quantisation-aware training, or None.
        penalties: multiplier -> a scalar added to the loss.
        micro_tokens: tokens per forward pass.
    """

    forward: Forward
    source: Source
    schedule: Callable[[float], float]
    growth: Any
    clip: Callable[[list[Tensor]], Any] | None
    fake: Any
    penalties: list[Any]
    micro_tokens: int


def _step_parts(
    run: TrainingState, source: Source, micro_tokens: int | None, compiled: bool, stack: contextlib.ExitStack
) -> StepParts:
    """Build what the steps use; a compiled training stays compiled until ``stack`` is closed."""
    recipe = run.recipe
    forward: Forward = run.model
    fake, penalties = _watchers(recipe, run.model)
    growth = recipe.build("growth")
    micro_tokens = micro_tokens or recipe.schedule.micro_tokens
    if compiled:
        stack.enter_context(compiling())
        ids, targets = (t.to(run.device) for t in source.batch(0, *process_group.rank_and_size()))
        lengths = [ids.size(1)] if growth is None else growth.lengths
        every = [part for length in lengths for part in _micro_batches(ids, targets, micro_tokens, length)]
        forward, run.graphs = compile_all(run.model, every, fake)
    schedule, clip = recipe.build("schedule"), recipe.build("clip_grad")
    return StepParts(forward, source, schedule, growth, clip, fake, penalties, micro_tokens)


def _step(run: TrainingState, parts: StepParts, progress: float) -> None:
    """One step: gradients, clipping, optimizers, averages.

    Raises:
        TrainingFailed: the loss is not finite.
    """
    multiplier = parts.schedule(progress)
    run.model.set_progress(progress)
    if parts.fake is not None:
        parts.fake.update(multiplier)
    length = None if parts.growth is None else parts.growth.length(progress)
    loss = _gradients(run, parts.forward, parts.source, parts.penalties, multiplier, parts.micro_tokens, length)
    if parts.clip is not None:
        parts.clip(run.parameters)
    run.optimizers.step(multiplier * (1.0 if parts.growth is None else parts.growth.factor(progress)), progress)
    run.step += 1
    progress = run.progress()
    for _, average in run.averages:
        average.update(run.parameters, run.step, progress, multiplier)
    run.losses.append(loss)
    if not math.isfinite(loss):
        raise TrainingFailed(f"the loss became {loss} at step {run.step}")


def source_of(recipe: Recipe, text: Any) -> Source:
    """The batches a recipe trains on, from its training tokens (a `golflab.model.data.shards.Stream`).

    Raises:
        ValueError: the text is too short for a batch, or the batch does not divide into sequences.
    """
    made: Source = recipe.build("batches")(text, recipe.schedule.batch_tokens, recipe.seed)
    return made


def _asked(run: TrainingState, on_rung: Callable[[dict[str, Any], nn.Module], str | None] | None) -> str:
    """Call ``on_rung`` while the clock is stopped; return why the run must stop, or an empty text."""
    with run.clock.paused():
        point = run.point()
        stopped = process_group.stop_reason(on_rung(point, run.model) if on_rung else None, run.device)
    if not stopped:
        run.answered = point["progress"]
        run.rungs += [point] if on_rung else []
    return stopped


def _gradients(
    run: TrainingState,
    forward: Forward,
    source: Source,
    penalties: list[Any],
    multiplier: float,
    micro_tokens: int,
    length: int | None = None,
) -> float:
    """Accumulate one step's gradients and return its mean loss (without penalties) over all processes."""
    rank, world = process_group.rank_and_size()
    ids, targets = (t.to(run.device, non_blocking=True) for t in source.batch(run.step, rank, world))
    parts = _micro_batches(ids, targets, micro_tokens, length)
    for parameter in run.parameters:
        parameter.grad = None
    total = torch.zeros((), device=run.device)
    for part_ids, part_targets in parts:
        share = part_ids.numel() / ids.numel()
        loss = forward(part_ids, part_targets)
        total += loss.detach() * share
        for penalty in penalties:
            loss = loss + penalty(multiplier)
        (loss * share).backward()
    if world > 1:
        own = run.optimizers.own_reduction
        gradients = [p.grad for p in run.parameters if p.grad is not None and id(p) not in own]
        for tensor in [*gradients, total]:
            dist.all_reduce(tensor)
            tensor /= world
    return float(total)


def _micro_batches(ids: Tensor, targets: Tensor, micro_tokens: int, length: int | None = None) -> list[tuple[Tensor, Tensor]]:
    """Cut a batch (rows,T) into as few parts of at most ``micro_tokens`` as possible; equal sizes share a compiled graph.

    With a ``length``, rows are first cut into sequences of so many positions; what is left of them makes parts of its own.
    """
    if length is not None and length < ids.size(1):
        whole = ids.size(1) // length * length
        pieces = [(ids[:, :whole].reshape(-1, length), targets[:, :whole].reshape(-1, length))]
        pieces += [(ids[:, whole:], targets[:, whole:])] if whole < ids.size(1) else []
        return [part for piece in pieces for part in _micro_batches(*piece, micro_tokens)]
    count = min(ids.size(0), -(-ids.numel() // micro_tokens))
    return list(zip(ids.tensor_split(count), targets.tensor_split(count), strict=True))


def _mark(run: TrainingState, on_step: Callable[[dict[str, Any]], None] | None) -> None:
    """Add a point to the curve: the mean loss since the last one."""
    tokens = run.step * run.recipe.schedule.batch_tokens
    point = {
        "step": run.step,
        "tokens": tokens,
        "seconds": round(run.clock.seconds(), 3),
        "loss": sum(run.losses) / len(run.losses),
    }
    run.losses = []
    run.curve.append(point)
    if on_step is not None:
        on_step(point)


def _watchers(recipe: Recipe, model: nn.Module) -> tuple[Any, list[Any]]:
    """The controller of quantisation-aware training and the penalties, both attached to the model."""
    fake = recipe.build("fake_quant")
    penalties = [t.build(recipe.shape) for t in recipe.techniques_in("penalty")]
    for watcher in [*penalties, *([fake] if fake else [])]:
        watcher.attach(model, recipe)
    return fake, penalties
