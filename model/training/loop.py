"""The training loop: clock, schedule, averages, rungs, checkpoints. One device or many processes, the same mathematics."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.recipe import Recipe
from golflab.model.system.tensors import read_tensors, write_tensors
from golflab.model.technique import Technique
from golflab.model.training.clock import Clock
from golflab.model.training.compiled import compile_all, compiling
from golflab.model.training.optimizers import Optimizers
from golflab.model.training.result import Average, Trained, TrainingFailed, average_key, riding

RUNGS = (0.25, 0.5, 0.75)  # shares of the run at which a run is measured and may be stopped
CURVE_POINTS = 100
CHECKPOINT_SECONDS = 20.0


class Source(Protocol):
    """What the slot ``batches`` provides: any step's batch, so that a run resumes anywhere."""

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor]:
        """This process's inputs and targets (rows, T) of a step."""


class Run:
    """Everything that changes while a recipe trains, and how to save and restore it."""

    def __init__(self, recipe: Recipe, device: torch.device, dtype: torch.dtype) -> None:
        self.recipe, self.device = recipe, device
        self.model = GPT(recipe, dtype)
        initialize(self.model, recipe)
        self.model.to(device)
        self.names = [name for name, _ in self.model.named_parameters()]
        self.parameters: list[Tensor] = list(self.model.parameters())
        self.optimizers = Optimizers(self.model, recipe)
        self.averages: list[tuple[Technique, Average]] = [(t, t.build(recipe.shape)) for t in riding(recipe)]
        for _, average in self.averages:
            average.start(self.parameters)
        self.step = 0
        self.clock = Clock()
        self.curve: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.notes: list[str] = []
        self.rungs: list[dict[str, Any]] = []  # what was measured there
        self.answered = 0.0  # progress at the last rung that was answered
        self.graphs: list[str] = []  # one entry for each that was compiled

    def progress(self) -> float:
        """How far the run is, in [0, 1]: by steps or by the clock, whichever is further."""
        schedule = self.recipe.schedule
        by_step = 0.0 if schedule.steps is None else self.step / schedule.steps
        by_clock = 0.0 if schedule.seconds is None else _agreed(self.clock.seconds(), self.device) / schedule.seconds
        return min(1.0, max(by_step, by_clock))

    def save(self, path: Path) -> None:
        """Write a checkpoint from which `load` continues bit-exactly; all processes call it, the first one writes.

        A disk that is full costs the checkpoint, not the run.
        """
        tensors = {f"weights.{n}": p.detach() for n, p in zip(self.names, self.parameters, strict=True)}
        tensors |= {f"optimizer.{key}": value for key, value in self.optimizers.state().items()}
        scalars = []
        for i, (_, average) in enumerate(self.averages):
            tensors |= {f"average.{i}.{n}": s for n, s in zip(self.names, average.sums, strict=True)}
            scalars.append({key: value for key, value in vars(average).items() if isinstance(value, float)})
        told = {
            "step": self.step,
            "seconds": self.clock.seconds(),
            "curve": self.curve,
            "losses": self.losses,
            "averages": scalars,
            "notes": self.notes,
            "rungs": self.rungs,
            "answered": self.answered,
        }
        if _place()[0] == 0:
            try:
                write_tensors(path, tensors, told)
            except OSError as error:
                self.note(f"a checkpoint could not be written: {error.strerror}")

    def note(self, text: str) -> None:
        """Note something for the record, once."""
        if text not in self.notes:
            self.notes.append(text)

    def load(self, path: Path) -> bool:
        """Continue from a checkpoint; False where there is none that can be read.

        Raises:
            RuntimeError: the processes of this run do not all see the same checkpoint.
        """
        stored = read_tensors(path)
        step = 0 if stored is None else stored[1]["step"]
        if step != _agreed(step, self.device):
            raise RuntimeError(f"{path} is not the same on all nodes; keep runs/ on a file system that all of them share.")
        if stored is None:
            if path.exists():
                self.note("its checkpoint was damaged; the training began again")
            return False
        tensors, told = stored
        with torch.no_grad():
            for name, parameter in zip(self.names, self.parameters, strict=True):
                parameter.copy_(tensors[f"weights.{name}"])
            for i, (_, average) in enumerate(self.averages):
                for name, total in zip(self.names, average.sums, strict=True):
                    total.copy_(tensors[f"average.{i}.{name}"])
                vars(average).update(told["averages"][i])
        state = {key.removeprefix("optimizer."): t for key, t in tensors.items() if key.startswith("optimizer.")}
        # Numbers too: fused Adam keeps its count of steps beside the parameters.
        self.optimizers.load({key: t.to(self.device) for key, t in state.items()})
        self.step, self.curve, self.losses = told["step"], told["curve"], told["losses"]
        self.notes, self.rungs, self.answered = told["notes"], told["rungs"], told["answered"]
        self.clock.set(told["seconds"])
        return True

    def due(self) -> bool:
        """Whether a rung is reached that was not answered yet; of several at once only the last one counts."""
        progress = self.progress()
        return progress < 1.0 and any(self.answered < rung <= progress for rung in RUNGS)

    def point(self) -> dict[str, Any]:
        """Where the run is."""
        tokens = self.step * self.recipe.schedule.batch_tokens
        return {"step": self.step, "tokens": tokens, "progress": self.progress(), "seconds": self.clock.seconds()}

    def result(self, stopped: str) -> Trained:
        """What is left when the loop ends.

        Raises:
            TrainingFailed: a weight is not finite.
        """
        averages = {}
        for technique, average in self.averages:
            if (value := average.value()) is not None:
                averages[average_key(technique)] = {n: v.cpu() for n, v in zip(self.names, value, strict=True)}
        weights = {n: p.detach().cpu().clone() for n, p in zip(self.names, self.parameters, strict=True)}
        for kind, tensors in (("weights", weights), *averages.items()):
            if bad := [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]:
                raise TrainingFailed(f"after step {self.step}, the last, {bad[0]} holds NaN or infinity ({kind})")
        tokens = self.step * self.recipe.schedule.batch_tokens
        told = (self.curve, tokens, self.clock.seconds(), stopped, self.notes, self.rungs, len(self.graphs))
        return Trained(weights, averages, *told)


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

    With ``torch.distributed`` initialised every process trains on its share of each batch and gradients are averaged; the
    first one writes the checkpoints, is asked at the rungs and decides for all.

    Args:
        recipe: what to train.
        source: the batches.
        device: where.
        dtype: type of activations and products; weights and optimiser state are float32.
        checkpoint: file to continue from and to write every `CHECKPOINT_SECONDS`; None for neither.
        on_rung: called at each of `RUNGS` with the point and the model; a returned text stops the run for that reason.
        on_step: called after each point of the curve.
        compiled: run the model through ``torch.compile``; compiling happens before the clock starts.
        micro_tokens: tokens in flight at once where the recipe's own number is too many for the memory; None keeps it.

    Raises:
        TrainingFailed: the loss is not finite.
    """
    run = Run(recipe, torch.device(device), dtype)
    if checkpoint is not None:
        run.load(checkpoint)
    fake, penalties = _watchers(recipe, run.model)
    micro_tokens = micro_tokens or recipe.schedule.micro_tokens
    forward: Callable[[Tensor, Tensor], Tensor] = run.model
    with contextlib.ExitStack() as stack:
        if compiled:
            stack.enter_context(compiling())
            ids, targets = (t.to(run.device) for t in source.batch(0, *_place()))
            forward, run.graphs = compile_all(run.model, _micro_batches(ids, targets, micro_tokens), fake)
        schedule_of, clip = _build(recipe, "schedule"), _build(recipe, "clip_grad")
        steps, last_saved, stopped = recipe.schedule.steps, time.monotonic(), ""
        run.clock.start()  # what came before, loading and compiling, is no training
        while True:
            if run.due() and (stopped := _asked(run, on_rung)):
                break
            if (progress := run.progress()) >= 1.0:
                break
            multiplier = schedule_of(progress)
            run.model.set_progress(progress)
            if fake is not None:
                fake.update(multiplier)
            loss = _gradients(run, forward, source, penalties, multiplier, micro_tokens)
            if clip is not None:
                clip(run.parameters)
            run.optimizers.step(multiplier, progress)
            run.step += 1
            progress = run.progress()
            for _, average in run.averages:
                average.update(run.parameters, run.step, progress, multiplier)
            run.losses.append(loss)
            if not math.isfinite(loss):
                raise TrainingFailed(f"the loss became {loss} at step {run.step}")
            if run.step % max(1, (steps or 1000) // CURVE_POINTS) == 0:
                _mark(run, on_step)
            if checkpoint is not None and _agreed(time.monotonic() - last_saved, run.device) > CHECKPOINT_SECONDS:
                with run.clock.paused():
                    run.save(checkpoint)
                last_saved = time.monotonic()
        if run.losses and not stopped:
            _mark(run, on_step)
        with run.clock.paused():
            return run.result(stopped)


def source_of(recipe: Recipe, text: Any) -> Source:
    """The batches a recipe trains on, from its training tokens (a `golflab.model.data.shards.Stream`).

    Raises:
        ValueError: the text is too short for a batch, or the batch does not divide into sequences.
    """
    batches: Any = recipe.tenant("batches")
    made: Source = batches.build(recipe.shape)(text, recipe.schedule.batch_tokens, recipe.seed)
    return made


def _asked(run: Run, on_rung: Callable[[dict[str, Any], nn.Module], str | None] | None) -> str:
    """Ask at a rung, while the clock stands still; why the run must stop, or an empty text."""
    with run.clock.paused():
        point = run.point()
        stopped = _verdict(on_rung(point, run.model) if on_rung else None, run.device)
    if not stopped:
        run.answered = point["progress"]
        run.rungs += [point] if on_rung else []
    return stopped


def _gradients(
    run: Run,
    forward: Callable[[Tensor, Tensor], Tensor],
    source: Source,
    penalties: list[Any],
    multiplier: float,
    micro_tokens: int,
) -> float:
    """Accumulate one step's gradients and return its mean loss (without penalties) over all processes."""
    rank, world = _place()
    ids, targets = (t.to(run.device, non_blocking=True) for t in source.batch(run.step, rank, world))
    parts = _micro_batches(ids, targets, micro_tokens)
    for parameter in run.parameters:
        parameter.grad = None
    total = torch.zeros((), device=run.device)
    for part_ids, part_targets in parts:
        share = part_ids.size(0) / ids.size(0)
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


def _micro_batches(ids: Tensor, targets: Tensor, micro_tokens: int) -> list[tuple[Tensor, Tensor]]:
    """Cut a batch (rows,T) into as few equal parts of at most ``micro_tokens`` as can be: a shape is a graph."""
    count = min(ids.size(0), -(-ids.numel() // micro_tokens))
    return list(zip(ids.tensor_split(count), targets.tensor_split(count), strict=True))


def _mark(run: Run, on_step: Callable[[dict[str, Any]], None] | None) -> None:
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
    """The quantisation-aware training's controller, attached to the model, and the penalties."""
    fake = _build(recipe, "fake_quant")
    penalties = [t.build(recipe.shape) for t in recipe.tenants("penalty")]
    for watcher in [*penalties, *([fake] if fake else [])]:
        watcher.attach(model, recipe)
    return fake, penalties


def _build(recipe: Recipe, slot: str) -> Any:
    tenant = recipe.tenant(slot)
    return None if tenant is None else tenant.build(recipe.shape)


def _place() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def _agreed(number: float, device: torch.device) -> float:
    """The first process's number (seconds on its clock, a step), so that all processes do the same."""
    if _place()[1] == 1:
        return number
    agreed = torch.tensor(number, dtype=torch.float64, device=device)
    dist.broadcast(agreed, 0)
    return float(agreed)


def _verdict(reason: str | None, device: torch.device) -> str:
    """Why the run must stop, or an empty text; what the first process was told holds for all."""
    stops = _agreed(float(bool(reason)), device)
    return (reason or "stopped by the first process") if stops else ""
