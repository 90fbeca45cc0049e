"""The state of a training: everything that changes from step to step, and how it is saved to a checkpoint and restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.recipe import Recipe
from golflab.model.system.tensors import read_tensors, write_tensors
from golflab.model.technique import Technique
from golflab.model.training import process_group
from golflab.model.training.clock import Clock
from golflab.model.training.optimizers import Optimizers
from golflab.model.training.result import Average, Trained, TrainingFailed, average_key, kept_averages

RUNGS = (0.25, 0.5, 0.75)  # shares of the run at which a run is measured and may be stopped


class TrainingState:
    """Everything that changes while a recipe trains, and how to save and restore it."""

    def __init__(self, recipe: Recipe, device: torch.device, dtype: torch.dtype) -> None:
        self.recipe, self.device = recipe, device
        self.model = GPT(recipe, dtype)
        initialize(self.model, recipe)
        self.model.to(device)
        self.names = [name for name, _ in self.model.named_parameters()]
        self.parameters: list[Tensor] = list(self.model.parameters())
        self.optimizers = Optimizers(self.model, recipe)
        self.averages: list[tuple[Technique, Average]] = [(t, t.build(recipe.shape)) for t in kept_averages(recipe)]
        for _, average in self.averages:
            average.start(self.parameters)
        self.step = 0
        self.clock = Clock()
        self.curve: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.notes: list[str] = []
        self.rungs: list[dict[str, Any]] = []  # what was measured there
        self.answered = 0.0  # progress at the last rung for which `on_rung` was called
        self.graphs: list[str] = []  # one entry for each compiled graph

    def progress(self) -> float:
        """Progress of the run in [0, 1]: by steps or by the clock, whichever is larger."""
        schedule = self.recipe.schedule
        by_step = 0.0 if schedule.steps is None else self.step / schedule.steps
        by_clock = (
            0.0 if schedule.seconds is None else process_group.from_first(self.clock.seconds(), self.device) / schedule.seconds
        )
        return min(1.0, max(by_step, by_clock))

    def save(self, path: Path) -> None:
        """Write a checkpoint from which `load` continues bit-exactly; all processes call it, the first one writes.

        If the disk is full, the run goes on without a checkpoint.
        """
        tensors = {f"weights.{n}": p.detach() for n, p in zip(self.names, self.parameters, strict=True)}
        tensors |= {f"optimizer.{key}": value for key, value in self.optimizers.state().items()}
        scalars = []
        for i, (_, average) in enumerate(self.averages):
            tensors |= {f"average.{i}.{n}": s for n, s in zip(self.names, average.sums, strict=True)}
            scalars.append({key: value for key, value in vars(average).items() if isinstance(value, float)})
        facts = {
            "step": self.step,
            "seconds": self.clock.seconds(),
            "curve": self.curve,
            "losses": self.losses,
            "averages": scalars,
            "notes": self.notes,
            "rungs": self.rungs,
            "answered": self.answered,
        }
        if process_group.rank_and_size()[0] == 0:
            try:
                write_tensors(path, tensors, facts)
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
        if step != process_group.from_first(step, self.device):
            raise RuntimeError(f"{path} is not the same on all nodes; keep runs/ on a file system that all of them share.")
        if stored is None:
            if path.exists():
                self.note("its checkpoint was damaged; the training began again")
            return False
        tensors, facts = stored
        with torch.no_grad():
            for name, parameter in zip(self.names, self.parameters, strict=True):
                parameter.copy_(tensors[f"weights.{name}"])
            for i, (_, average) in enumerate(self.averages):
                for name, total in zip(self.names, average.sums, strict=True):
                    total.copy_(tensors[f"average.{i}.{name}"])
                vars(average).update(facts["averages"][i])
        state = {key.removeprefix("optimizer."): t for key, t in tensors.items() if key.startswith("optimizer.")}
        # Scalars too: fused Adam keeps its step counts on the device of the parameters.
        self.optimizers.load({key: t.to(self.device) for key, t in state.items()})
        self.step, self.curve, self.losses = facts["step"], facts["curve"], facts["losses"]
        self.notes, self.rungs, self.answered = facts["notes"], facts["rungs"], facts["answered"]
        self.clock.set(facts["seconds"])
        return True

    def due(self) -> bool:
        """Whether a rung has been reached at which `on_rung` was not called yet; of several only the last one counts."""
        progress = self.progress()
        return progress < 1.0 and any(self.answered < rung <= progress for rung in RUNGS)

    def point(self) -> dict[str, Any]:
        """Where the run is."""
        tokens = self.step * self.recipe.schedule.batch_tokens
        return {"step": self.step, "tokens": tokens, "progress": self.progress(), "seconds": self.clock.seconds()}

    def result(self, stopped: str) -> Trained:
        """The result when the loop ends.

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
        rest = (self.curve, tokens, self.clock.seconds(), stopped, self.notes, self.rungs, len(self.graphs))
        return Trained(weights, averages, *rest)
