"""The state of a run: its recipe, data and device, what it has found so far, and its keys in the stage cache."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from golflab.model.data.corpus import load_corpus
from golflab.model.data.prepare import TokenData, prepared
from golflab.model.recipe import Recipe
from golflab.model.stages import Cache, later_keys, train_key, trained_key
from golflab.model.submission.script import exact_code_bytes
from golflab.model.system.device import Place
from golflab.model.system.files import write_atomic
from golflab.model.system.machine import Conditions
from golflab.model.training.compiled import pays
from golflab.model.training.reporting import OnStage, no_report


@dataclass
class Job:
    """The state of a run.

    Attributes:
        recipe: what is run.
        cache: the stage cache.
        place: the device, and the type of activations.
        data: what it trains on and is scored on.
        compiled: whether the training is compiled.
        processes: how many processes train together.
        folder: where its record is written, or None.
        earlier: conditions of an earlier run, whose training is used if the cache still has it.
        stages: seconds by stage.
        notes: for the record.
        trained_here: whether this run trained, or found its training in the cache.
        training: name of the training, once there is one: see `golflab.model.stages.trained_key`.
        text: fingerprints of ``corpus`` and ``tokenizer``, for the record.
        tell: called with the present stage and how far it is: see ``on_stage`` of `golflab.model.run.run`.
    """

    recipe: Recipe
    cache: Cache
    place: Place
    data: TokenData
    compiled: bool
    processes: int = 1
    folder: Path | None = None
    earlier: Conditions | None = None
    stages: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    trained_here: bool = False
    training: str = ""
    text: dict[str, str] = field(default_factory=dict)
    tell: OnStage = no_report

    @staticmethod
    def begin(
        recipe: Recipe,
        cache: Path,
        device: str,
        compiled: bool | None,
        local_disk: Path | None = None,
        tell: OnStage = no_report,
    ) -> Job:
        """Check a recipe and prepare its data.

        Raises:
            ValueError: the recipe, its data or its tokenizer cannot work.
        """
        recipe.check()
        tell("preparing", {})
        place, started = Place.choose(device), time.perf_counter()
        corpus = load_corpus(recipe.data.corpus)  # opened first: `prepared` then uses the same one
        data = prepared(recipe, cache / "data", local_disk)
        compiled = pays(recipe.schedule, place.device.type) if compiled is None else compiled
        job = Job(recipe, Cache(cache), place, data, compiled, tell=tell)
        job.text = {"corpus": corpus.fingerprint, "tokenizer": data.tokenizer.fingerprint}
        job.stages["prepare"] = round(time.perf_counter() - started, 3)
        return job

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds spent inside to the stage's."""
        start = time.perf_counter()
        yield
        self.stages[stage] = round(self.stages.get(stage, 0.0) + time.perf_counter() - start, 3)

    def scored(self, done: int, total: int, bpb: float) -> None:
        """Report how far the scoring is; `golflab.model.evaluation.score.evaluate` calls this."""
        self.tell("scoring", {"progress": done / total})

    def keep(self, stage: str, key: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> bool:
        """Put a stage's result into the cache; return whether that worked. If the disk is full, the run goes on without it."""
        try:
            self.cache.write(stage, key, tensors, facts)
        except OSError as error:
            self.notes.append(f"the result of stage {stage!r} could not be kept: {error.strerror}")
            return False
        return True

    @functools.cached_property
    def conditions(self) -> Conditions:
        """Conditions of this run."""
        return Conditions.here(self.place, self.processes, self.compiled)

    @functools.cached_property
    def train_key(self) -> str:
        """Key of the training; of the earlier run's training, if one is given and the cache still has it."""
        if self.earlier is not None:
            key = train_key(self.recipe, self.data.fingerprint, self.earlier)
            if self.cache.path("train", key).exists():
                return key
            self.earlier = None
        return train_key(self.recipe, self.data.fingerprint, self.conditions)

    def name_training(self, facts: dict[str, Any]) -> None:
        """Set the name of the training, from its facts in the cache."""
        self.training = trained_key(self.train_key, facts)

    @functools.cached_property
    def later(self) -> dict[str, str]:
        """Keys of the stages after the training, which must have a name."""
        assert self.training
        return later_keys(self.recipe, self.training, self.conditions)

    @functools.cached_property
    def code_bytes(self) -> int:
        """Bytes of the script that are counted with the weights."""
        return exact_code_bytes(self.recipe)

    @property
    def checkpoint(self) -> Path:
        """File of the training's checkpoint. It holds measurements at this recipe's rungs, so other recipes have their own."""
        return self.cache.path("train", f"{self.train_key}-{self.recipe.hash}", "checkpoint")

    @property
    def _unrecorded(self) -> Path:
        return self.cache.path("train", f"{self.train_key}-{self.recipe.hash}", "unrecorded")

    def claim(self) -> None:
        """Note on disk that this run has trained and has no record yet; if the disk is full, there is no note."""
        with contextlib.suppress(OSError):
            write_atomic(self._unrecorded, str(self.folder and self.folder.resolve()).encode())

    def is_own(self) -> bool:
        """Whether this run trained the cached training itself, and was then interrupted before its record was written."""
        try:
            return self._unrecorded.read_bytes() == str(self.folder and self.folder.resolve()).encode()
        except FileNotFoundError:
            return False

    def settle(self) -> None:
        """Remove the note of `claim`, since the record is written."""
        if self.trained_here:
            self._unrecorded.unlink(missing_ok=True)
