"""What is cached between stages, and under which key: a model is trained once and finished in many ways.

A stage's key is the hash of everything that can change its result: the key of the stage before it, the part of the recipe
it can see, the conditions it runs under, and the source of all code it can run (`golflab.model.system.sources`). Two recipes
that differ only after training therefore share one training. Each stage is given its part of the recipe and no more, so that
it cannot read what its key does not hold.

The result of a training that is bounded by seconds depends on the speed of the machine. It is therefore used only on machines
of the same kind, and only by a process that is as fast (`golflab.model.job.training`). The keys of what comes after such a
training name that one training, because another one may replace it in the cache.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from golflab.model.recipe import Recipe, digest
from golflab.model.shape import Data
from golflab.model.slots import SLOTS
from golflab.model.submission.script import exact_code_bytes
from golflab.model.system.files import locked
from golflab.model.system.machine import Conditions
from golflab.model.system.sources import Read, code_hash, source
from golflab.model.system.tensors import read_tensors, write_tensors
from golflab.model.technique import Technique
from golflab.model.training.result import kept_averages

# The modules that a stage starts from. The rest of its code follows from what they and the techniques import.
ENTRY_MODULES = {
    "train": ("golflab.model.data.prepare", "golflab.model.training.loop"),
    "pack": ("golflab.model.compression.finish",),
    "evaluate": ("golflab.model.network.weights", "golflab.model.evaluation.score"),
}


# ---------------------------------------------------------------------- the parts of a recipe that stages see


def training_part(recipe: Recipe) -> Recipe:
    """What a training can see: no text but its batches, no limit, and no average that every training keeps anyway."""
    part = _part(recipe, "data", "model", "train")
    average = part.technique_in("average")
    return part if average is None or average not in _usual(part) else part.without(average.name)


def finishing_part(recipe: Recipe) -> Recipe:
    """What quantising and packing can see: all but the evaluation, and the limit only where a technique trims to it."""
    part = _part(recipe, "data", "model", "train", "quantise", "pack")
    return part.with_(limit=recipe.limit) if part.technique_in("trim") is not None else part


def scoring_part(recipe: Recipe) -> Recipe:
    """What an evaluation can see: not how its weights were packed."""
    return _part(recipe, "data", "model", "train", "evaluate")


def _part(recipe: Recipe, *stages: str) -> Recipe:
    """A recipe's techniques of these stages and of the slots that they read, without data, limit and name."""
    kept = tuple(_techniques_of(recipe, *stages))
    return dataclasses.replace(recipe, techniques=kept, data=Data(), limit=Recipe.limit, name="")


def _techniques_of(recipe: Recipe, *stages: str) -> list[Technique]:
    """The techniques in all slots of these stages, defaults included, and in the slots of later stages that they read."""
    open_ends, found = [slot.name for slot in SLOTS.values() if slot.stage in stages], dict[str, tuple[Technique, ...]]()
    while open_ends:
        if (name := open_ends.pop(0)) not in found:
            found[name] = recipe.techniques_in(name)
            open_ends += [read for t in found[name] for read in t.reads]
    return [t for techniques in found.values() for t in techniques]


def _usual(recipe: Recipe) -> list[Technique]:
    """The averages that every training keeps."""
    own = recipe.technique_in("average")
    return kept_averages(recipe if own is None else recipe.without(own.name))


# ---------------------------------------------------------------------- keys


def train_key(recipe: Recipe, fingerprint: str, conditions: Conditions, read: Read = source) -> str:
    """Key of a recipe's training.

    Args:
        recipe: the recipe.
        fingerprint: of the tokenised corpus.
        conditions: it is trained under.
        read: gives a module's source.
    """
    part = training_part(recipe)
    averages = kept_averages(part)
    content = part.to_json() | {"averages": [{t.name: t.settings()} for t in averages], "text": fingerprint}
    under = conditions if recipe.schedule.seconds is not None else dataclasses.replace(conditions, pace="")
    code = _code("train", [*_techniques_of(recipe, "data", "model", "train"), *averages], read)
    return digest([content, dataclasses.asdict(under), code])


def later_keys(recipe: Recipe, trained: str, conditions: Conditions, read: Read = source) -> dict[str, str]:
    """Keys of what comes after a training.

    Args:
        recipe: the recipe.
        trained: name of the training: its key, or `trained_key` where it is bounded by seconds.
        conditions: the weights are packed and scored under; how they were trained is part of ``trained``.
        read: gives a module's source.

    Returns:
        Keys of ``pack`` (quantise and pack), ``evaluate`` (the artifact) and ``float`` (the same weights before quantisation).
    """
    place = [conditions.device, conditions.dtype]
    finish, scoring, average = finishing_part(recipe), scoring_part(recipe), recipe.technique_in("average")
    room = None if recipe.technique_in("trim") is None else recipe.limit - exact_code_bytes(recipe)
    weights = [trained, None if average is None else {average.name: average.settings()}]
    pack = digest([weights, finish.to_json(), room, place, _code("pack", _techniques_of(recipe, "quantise", "pack"), read)])
    scored = [scoring.to_json(), recipe.data.split, place, _code("evaluate", _techniques_of(recipe, "evaluate"), read)]
    return {"pack": pack, "evaluate": digest([pack, scored]), "float": digest([weights, scored])}


def trained_key(key: str, facts: dict[str, Any]) -> str:
    """The name of a training in the cache: its key, and an own name where several trainings can have the same key."""
    return digest([key, facts["own"]]) if facts.get("own") else key


def _code(stage: str, techniques: Collection[Technique], read: Read) -> str:
    """Hash of all code that a stage with these techniques can run."""
    return code_hash({*ENTRY_MODULES[stage], *(type(t).__module__ for t in techniques)}, read)


# ---------------------------------------------------------------------- the cache


class Cache:
    """A folder of stage results, shared by all runs and safe for several processes.

    Args:
        folder: created when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, stage: str, key: str, kind: str = "stage") -> Path:
        """Where a stage's result lies."""
        return self.folder / stage / f"{key}.{kind}"

    def read(self, stage: str, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """A stage's tensors and facts, or None. The file's time is set to now, so that its age says when it was last used."""
        found = read_tensors(self.path(stage, key))
        if found is not None:
            with contextlib.suppress(OSError):  # the folder may be read-only
                os.utime(self.path(stage, key))
        return found

    def write(self, stage: str, key: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Keep a stage's result."""
        write_tensors(self.path(stage, key), tensors, facts)

    @contextlib.contextmanager
    def lock(self, stage: str, key: str) -> Iterator[None]:
        """Hold the lock of a stage while it is computed; another process waits, and then finds the result.

        See `golflab.model.system.files.locked` for where it holds between nodes. Where it does not, two nodes may compute the
        same stage at the same time. That costs time and nothing else: each writes a file of its own name and then renames it,
        and the last one stays.
        """
        path = self.path(stage, key, "lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            yield
