"""The result of a training, and which averages of its weights are kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from golflab.model.recipe import Recipe
from golflab.model.technique import Technique, catalogue


class Average(Protocol):
    """What the slot ``average`` builds: see `golflab.model.techniques.train.ema`."""

    sums: list[Tensor]

    def start(self, weights: list[Tensor]) -> None: ...
    def update(self, weights: list[Tensor], step: int, progress: float, multiplier: float) -> None: ...
    def value(self) -> list[Tensor] | None: ...


class TrainingFailed(RuntimeError):
    """The run cannot go on: the loss is not finite."""


@dataclass
class Trained:
    """The result of a training: the last weights, every average that was kept, and how it went.

    Attributes:
        weights: last weights by parameter name, float32 on the CPU.
        averages: averaged weights by `average_key`; an average that collected no weights is missing.
        curve: dictionaries with step, tokens, seconds and the mean loss in nats since the last point.
        tokens: tokens trained on.
        seconds: seconds on the training clock.
        stopped: why the run was stopped at a rung; empty if it was not.
        notes: what a reader of the record should know: a checkpoint that could not be read or written.
        rungs: the rungs at which it was measured and went on, with what was measured.
        graphs: how many graphs were compiled; 0 where it was not compiled.
    """

    weights: dict[str, Tensor]
    averages: dict[str, dict[str, Tensor]]
    curve: list[dict[str, float]] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    stopped: str = ""
    notes: list[str] = field(default_factory=list)
    rungs: list[dict[str, Any]] = field(default_factory=list)
    graphs: int = 0

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and facts, as `golflab.model.system.tensors` keeps them."""
        sets = {"last": self.weights} | {str(i): weights for i, weights in enumerate(self.averages.values())}
        facts: dict[str, Any] = {"averages": list(self.averages)}
        facts |= {key: getattr(self, key) for key in ("curve", "tokens", "seconds", "notes", "rungs", "graphs")}
        return {f"{which}.{name}": w for which, weights in sets.items() for name, w in weights.items()}, facts

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor], facts: dict[str, Any]) -> Trained:
        """Read `to_tensors`' values back."""
        sets: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            which, _, parameter = name.partition(".")
            sets.setdefault(which, {})[parameter] = tensor
        averages = {key: sets[str(i)] for i, key in enumerate(facts["averages"])}
        kept = {key: facts[key] for key in ("curve", "tokens", "seconds", "notes", "rungs", "graphs")}
        return Trained(sets["last"], averages, **kept)

    def chosen(self, average: Technique | None) -> dict[str, Tensor]:
        """The weights that ``average`` exports; the last weights where it is None or collected nothing."""
        return self.weights if average is None else self.averages.get(average_key(average), self.weights)


def average_key(average: Technique) -> str:
    """The name under which an average's weights are kept."""
    return json.dumps({average.name: average.settings()}, sort_keys=True)


def kept_averages(recipe: Recipe) -> list[Technique]:
    """The averages that a training keeps: the usual ones, so that recipes with one of them share it, and the recipe's own.

    An exported script carries only its own average, so there the usual ones are those whose files are present.
    """
    there = [cls for cls in catalogue().values() if cls.slot == "average"]
    usual = [cls(**knobs) for cls in there for knobs in getattr(cls, "always_kept", ())]
    own = recipe.technique_in("average")
    return usual if own is None or own in usual else [*usual, own]
