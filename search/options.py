"""What a search was asked for, and what it may spend."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from model.recipe import Recipe
from spaces.catalogue import space as find_space
from spaces.presets import preset
from spaces.space import Space


@dataclass(frozen=True)
class Options:
    """What a search was asked for; kept in ``experiment.json`` so that `resume` needs only its name.

    Attributes:
        preset: the recipe to vary around.
        space: a ready-made space or ``module:SPACE``.
        scale: ``proxy`` or ``full``.
        trials: trials in all.
        screen: trials chosen to tell techniques apart before the search turns to winning; None keeps the sampler's few.
        budget: ``2h``, ``90m``, ``300s``, ``50trainings`` or ``12gpuh``; empty for no other bound than ``trials``.
        tokens: training tokens of every run; None keeps the scale's.
        limit: bytes; None keeps the scale's.
        corpus: what is trained on; None keeps the preset's.
        name: of the experiment, its folder and its study.
        runs: folder of experiments.
        seed: of the proposals and of every run.
        address: of a running cluster; None uses this machine.
        cpus: cores to use of this machine; None uses all this process may.
        cpus_per_trial: cores a trial is given.
        gpus_per_trial: GPUs a trial is given; a fraction shares one.
        storage: Optuna URL; None keeps a journal file in the experiment's folder.
        runner: ``module:function`` that runs a recipe.
        forecaster: ``module:Class`` that forecasts a recipe's bytes and learns from records.
    """

    preset: str = "baseline"
    space: str = "starter"
    scale: str = "proxy"
    trials: int = 24
    screen: int | None = None
    budget: str = ""
    tokens: int | None = None
    limit: int | None = None
    corpus: str | None = None
    name: str = "search"
    runs: str = "runs"
    seed: int = 0
    address: str | None = None
    cpus: int | None = None
    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0
    storage: str | None = None
    runner: str = "model.run:run"
    forecaster: str = "search.forecast:Forecaster"

    @property
    def folder(self) -> Path:
        """The experiment's folder."""
        return Path(self.runs).resolve() / self.name

    @property
    def resume_command(self) -> str:
        """What to type to continue it."""
        runs = "" if Path(self.runs) == Path("runs") else f" --runs {self.runs}"
        return f"golflab resume {self.name}{runs}"

    def recipe(self) -> Recipe:
        """The preset at its scale, with the tokens, limit, corpus and seed asked for."""
        changes = {"tokens": self.tokens, "limit": self.limit, "corpus": self.corpus, "seed": self.seed}
        return preset(self.preset, self.scale).with_(**{key: value for key, value in changes.items() if value is not None})

    def load_space(self) -> Space:
        """The space, around the recipe."""
        return find_space(self.space, self.recipe())


@dataclass(frozen=True)
class Budget:
    """A bound on what a search may spend besides its number of trials.

    Attributes:
        seconds: on the clock, over all resumes.
        trainings: runs that train; what reuses a training is free.
        gpu_seconds: GPUs of a trial times its training seconds, summed.
    """

    seconds: float = math.inf
    trainings: float = math.inf
    gpu_seconds: float = math.inf

    @staticmethod
    def parse(text: str) -> Budget:
        """Read ``2h``, ``90m``, ``300s``, ``50trainings`` or ``12gpuh``; several may be joined by commas.

        Raises:
            ValueError: it reads as none of these.
        """
        found: dict[str, float] = {}
        for part in filter(None, text.replace(" ", "").split(",")):
            match = re.fullmatch(r"(\d+(?:\.\d+)?)(h|m|s|trainings?|gpuh)", part)
            if match is None or float(match[1]) <= 0:
                raise ValueError(f"budget={text!r} must read like 2h, 90m, 300s, 50trainings or 12gpuh.")
            amount, unit = float(match[1]), match[2]
            key = "trainings" if unit.startswith("training") else "gpu_seconds" if unit == "gpuh" else "seconds"
            found[key] = amount * {"h": 3600, "m": 60, "gpuh": 3600}.get(unit, 1)
        return Budget(**found)
