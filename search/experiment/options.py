"""The options of a search."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner

from golflab.model.recipe import Recipe
from golflab.search.engine.cluster import connected, cores
from golflab.search.engine.halving import shorter
from golflab.search.experiment.experiment_file import command
from golflab.search.ledger.pruners import ReliableRungPruner, WilcoxonRungPruner
from golflab.search.sampler.prior import Row, rows_of
from golflab.spaces.catalogue import space as find_space
from golflab.spaces.presets import PRESETS, preset
from golflab.spaces.scales import SCALES, at_scale, of_length, paced
from golflab.spaces.space import Space

PRUNERS = ("none", "median", "wilcoxon")
# Designs whose first combination is the reference of all others.
REFERRING = ("leave-one-out", "add-one-in", "pairs")


@dataclass(frozen=True)
class Options:
    """The options of a search. They are stored in ``experiment.json``, so that `resume` needs only the folder.

    Attributes:
        preset: name of the recipe that is varied; None: ``baseline``, or the preset of the user's own space.
        space: a ready-made space or ``module:SPACE``. The other options apply to its preset, too.
        scale: one of `golflab.spaces.scales.SCALES`; None: ``proxy``, or that of the user's own space.
        trials: trials in all.
        design: of a plan (``leave-one-out``, …); empty for a search; ``first`` for a search that begins with a plan.
        iso_size: whether the plan's recipes were made equally large.
        screen: trials chosen to tell techniques apart, before the search looks for the best one; None: the sampler's default.
        prior: effects that are expected of techniques before any trial: technique, mean and standard deviation (bits per byte).
        pruner: what may stop a run for its score at a rung, once rungs predict the final score: one of `PRUNERS`.
        variants: trials that reuse a finished training, at most this many per training. They count as trials, not as trainings.
        halving: each trial first runs complete schedules of 1/halving, 1/halving² … of the tokens; None runs the whole at once.
        budget: ``2h``, ``90m``, ``300s``, ``50trainings`` or ``12gpuh``; empty: only ``trials`` limits the search.
        tokens: training tokens of every run; None keeps the scale's.
        duration: training tokens per parameter of the preset, in place of ``tokens``; None: ``tokens`` say it.
        published_optimizer: keep a preset's optimiser as it was published; otherwise it is
            `golflab.spaces.scales.paced` to the steps. That of the user's own space stays.
        limit: bytes; None keeps the scale's.
        binding: whether the byte limit holds for the recipes of an ablation; None: it does.
        corpus: what is trained on; None keeps the preset's.
        tokenizer: path of a ``.model`` file, or ``auto``; None keeps the preset's.
        allow_overlap: run although some of the held-out text is in the training text, too.
        name: of the experiment: that of its folder.
        runs: folder of experiments.
        seed: of the proposals and of every run; None keeps the preset's.
        address: of a running cluster; None uses this machine.
        cpus: cores to use of this machine; None uses all this process may.
        cpus_per_trial: cores a trial is given.
        gpus_per_trial: GPUs a trial is given; a fraction shares one, 0 leaves them alone. None: one for each process of a
            trial, where the cluster has any.
        processes: that train a trial together, one GPU each where there are GPUs; None: as many as it has GPUs, else cores.
        local_disk: folder on each node's own disk, to which token shards are copied once; None: they are not copied.
        storage: Optuna URL; None keeps a journal file in the experiment's folder.
        cache: folder of finished stages; None keeps it in ``runs/cache``.
        finish: further ways to finish every training, as `golflab.model.ways.Way.parse` reads them.
        rungs: whether runs are scored at rungs, where they may be stopped.
        float_score: whether weights are also scored before quantisation.
        confirm: fresh seeds for a final comparison of the best recipe and the preset on the test part; 0 for none.
        runner: ``module:function`` that runs a recipe.
        forecaster: ``module:Class`` that forecasts a recipe's bytes and learns from records.
    """

    preset: str | None = None
    space: str = "starter"
    scale: str | None = None
    trials: int = 24
    design: str = ""
    iso_size: bool = False
    screen: int | None = None
    prior: tuple[Row, ...] = ()
    pruner: str = "none"
    variants: int = 0
    halving: int | None = None
    budget: str = ""
    tokens: int | None = None
    duration: float | None = None
    published_optimizer: bool = False
    limit: int | None = None
    binding: bool | None = None
    corpus: str | None = None
    tokenizer: str | None = None
    allow_overlap: bool = False
    name: str = "search"
    runs: str = "runs"
    seed: int | None = None
    address: str | None = None
    cpus: int | None = None
    cpus_per_trial: float = 1.0
    gpus_per_trial: float | None = None
    processes: int | None = None
    local_disk: str | None = None
    storage: str | None = field(default=None, repr=False)  # it may hold a password
    cache: str | None = None
    finish: tuple[str, ...] = ()
    rungs: bool = True
    float_score: bool = True
    confirm: int = 0
    runner: str = "golflab.model.run:run"
    forecaster: str = "golflab.search.ledger.forecast:Forecaster"

    def __post_init__(self) -> None:
        object.__setattr__(self, "finish", tuple(self.finish))  # JSON has lists only
        object.__setattr__(self, "prior", rows_of(self.prior))

    @staticmethod
    def read(body: Mapping[str, Any]) -> Options:
        """Read options as ``experiment.json`` keeps them.

        Raises:
            ValueError: an unknown field, or a value of another type.
        """
        kinds = {f.name: str(f.type) for f in dataclasses.fields(Options)}
        for name, value in body.items():
            if name not in kinds:
                raise ValueError(f"options: this golflab has no option {name!r}.")
            if not _is_a(value, kinds[name]):
                raise ValueError(f"options: {name}={value!r} must be {kinds[name].replace(' | None', ', or null')}.")
        return Options(**{"published_optimizer": True, **body})  # an older file lacks it, and optimisers were not changed then

    @property
    def folder(self) -> Path:
        """The experiment's folder."""
        return Path(self.runs).resolve() / self.name

    @property
    def cache_folder(self) -> Path:
        """The stage cache, shared by all experiments in ``runs``; a confirmation shares that of its search."""
        runs = Path(self.runs).resolve()
        return Path(self.cache).resolve() if self.cache else (runs.parent if self.design == "confirm" else runs) / "cache"

    @property
    def measuring(self) -> dict[str, Any]:
        """Settings of a runner about measuring, as JSON values, where they differ from its defaults."""
        settings: dict[str, Any] = {"ways": list(self.finish)} if self.finish else {}
        return settings | ({} if self.rungs else {"rungs": False}) | ({} if self.float_score else {"float_score": False})

    @property
    def proposes(self) -> bool:
        """Whether the sampler proposes trials; otherwise all of them come from a plan."""
        return self.design in ("", "first")

    @property
    def binds(self) -> bool:
        """Whether the byte limit holds for an ablation's plan."""
        return self.binding is not False

    @property
    def resume_command(self) -> str:
        """The command that continues it."""
        return command("resume", self.folder)

    def recipe(self) -> Recipe:
        """The recipe that is varied: the preset at its scale, with the given tokens, limit, corpus and seed.

        Raises:
            ValueError: no such preset, scale or space, or the user's own space has another preset.
        """
        return self.load_space().preset if ":" in self.space else self.around(self.preset or "baseline")

    def around(self, name: str) -> Recipe:
        """Another preset, with the given scale, tokens, limit, corpus and seed."""
        recipe = self._changed(preset(name, self.scale or "proxy"))
        return recipe if self.published_optimizer else paced(recipe)

    def _changed(self, recipe: Recipe) -> Recipe:
        changes = {name: getattr(self, name) for name in ("tokens", "limit", "corpus", "tokenizer", "seed")}
        changes["allow_overlap"] = self.allow_overlap or None
        recipe = recipe.with_(**{key: value for key, value in changes.items() if value is not None})
        # Once the options are settled, the tokens are what the duration came to.
        return recipe if self.tokens is not None else of_length(recipe, self.duration, None)

    def score_pruner(self) -> BasePruner | None:
        """The pruner that may stop a run for its score, or None.

        Raises:
            ValueError: there is no such pruner, or the schedule cannot be halved.
        """
        if self.pruner not in PRUNERS:
            raise ValueError(f"pruner={self.pruner!r} must be one of {', '.join(PRUNERS)}.")
        if self.halving is None:
            kinds = {"median": MedianPruner, "wilcoxon": WilcoxonRungPruner}
            return ReliableRungPruner(kinds[self.pruner]()) if self.pruner in kinds else None
        if self.pruner != "none":
            raise ValueError(f"pruner={self.pruner!r} judges truncated runs and halving complete ones; choose one of the two.")
        if self.halving < 2:
            raise ValueError(f"halving={self.halving} must be at least 2.")
        shortest = shorter(self.recipe(), self.halving)[0].schedule.steps or 1
        return ReliableRungPruner(SuccessiveHalvingPruner(min_resource=shortest, reduction_factor=self.halving))

    @property
    def team(self) -> int:
        """Processes that train one trial."""
        return self.processes or max(1, int(self.gpus_per_trial or self.cpus_per_trial))

    def bundle(self, gpus: float, cores_per_gpu: float = math.inf) -> dict[str, float]:
        """Resources of each process of a trial; if there are several processes, each has at least one core.

        Args:
            gpus: of the cluster.
            cores_per_gpu: `golflab.search.engine.cluster.Cluster.cores_per_gpu`.
        """
        cores = self.cpus_per_trial / self.team
        cpu = max(1.0, cores) if self.team > 1 else cores
        gpu = float(gpus > 0) if self.gpus_per_trial is None else self.gpus_per_trial / self.team
        if gpu and cpu <= 1:  # no GPU is left idle because its node has fewer cores than GPUs
            cpu = min(cpu, math.floor(cores_per_gpu * gpu * 1000) / 1000) if math.isfinite(cores_per_gpu) else cpu
        return {"CPU": cpu} | ({"GPU": gpu} if gpu else {})

    def check_team(self) -> None:
        """Check the resources of a trial.

        Raises:
            ValueError: no cores, more than this machine has, a GPU shared by processes of one trial, or a batch that they
                cannot share.
        """
        if self.cpus is not None and self.cpus < 1:
            raise ValueError(f"cpus={self.cpus} must be at least 1.")
        if self.cpus is not None and self.address is None and not connected() and self.cpus > cores():
            raise ValueError(f"cpus={self.cpus} is more than the {cores()} cores of this machine that this process may run on.")
        gpus = self.gpus_per_trial or 0.0
        if not (0 <= gpus < math.inf and 0 < self.cpus_per_trial < math.inf):
            got = f"{self.cpus_per_trial:g} and {gpus:g}"
            raise ValueError(f"A trial needs a positive number of CPUs, and no negative number of GPUs; got {got}.")
        if self.processes is not None and self.processes < 1:
            raise ValueError(f"processes={self.processes} must be at least 1.")
        if (self.team > 1 or gpus > 1) and gpus not in (0, self.team):
            raise ValueError(f"{self.team} processes cannot share gpus_per_trial={gpus:g}: several processes need a GPU each.")
        recipe = self.recipe()
        rows = recipe.schedule.batch_tokens // recipe.shape.context
        if rows % self.team:
            raise ValueError(
                f"{rows} sequences a batch cannot be divided among {self.team} processes; choose a divisor of {rows}."
            )

    def load_space(self) -> Space:
        """The space, with `recipe` as its preset.

        Raises:
            ValueError: there is no such space, or the user's own space has another preset than the options say.
        """
        return _own_space(self) if ":" in self.space else find_space(self.space, self.recipe())

    def brought(self) -> Space:
        """The user's own space as its module defines it, before the options are applied to its preset."""
        return find_space(self.space, self.around(self.preset if self.preset in PRESETS else "baseline"))


@functools.lru_cache(maxsize=16)
def _own_space(options: Options) -> Space:
    """The user's own space, with the options applied to its preset."""
    found = options.brought()
    name, scale = found.preset.name, scale_of(found.preset)
    if options.preset is not None and options.preset != name:
        raise ValueError(
            f"preset={options.preset!r}: the space {options.space} varies {name or 'a recipe without a name'!r}; leave "
            "--preset out, or build the space in its module on the other preset."
        )
    if options.scale is not None and options.scale != scale:
        its = f"the scale {scale!r}" if scale else "its own shape and schedule"
        raise ValueError(
            f"scale={options.scale!r}: the preset of the space {options.space} has {its}; leave --scale out, or build "
            f"the space in its module on preset(…, {options.scale!r})."
        )
    return dataclasses.replace(found, preset=options._changed(found.preset).check())


def _is_a(value: Any, kind: str) -> bool:
    """Whether a JSON value is what an annotation says."""
    plain, _, none = kind.partition(" | ")
    if value is None:
        return bool(none)
    if plain == "tuple[Row, ...]":  # its rows are checked when the options are made
        return isinstance(value, list)
    if plain.startswith("tuple"):
        return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    if plain == "float":
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value).__name__ == plain


def scale_of(recipe: Recipe) -> str | None:
    """The scale whose shape a recipe has; None if it has another shape."""
    full = PRESETS.get(recipe.name)
    return next((s for s in SCALES if full is not None and at_scale(full, s).shape == recipe.shape), None)
