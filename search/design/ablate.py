"""Plan an ablation before anything is run: which recipes, how many trainings, how long, and the smallest detectable effect."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from golflab.model.recipe import Recipe
from golflab.model.technique import Technique
from golflab.search.design.combinations import DESIGNS, Builder, combinations_of, reason_of, switched_techniques
from golflab.search.design.matrices import Combination
from golflab.search.design.power import resolution, usual_noise
from golflab.search.experiment.options import REFERRING
from golflab.search.ledger.forecast import Forecaster
from golflab.search.ledger.problem import training_key


@dataclass(frozen=True)
class Plan:
    """What an ablation will run.

    Attributes:
        design: its name; of a screen, "folded Plackett-Burman" or "D-optimal".
        preset: the recipe that is taken apart.
        techniques: names that are switched.
        recipes: to run, the preset first where the design has it.
        trainings: how many of them must be trained; the others differ from these only after training.
        se: standard error expected of an effect, bits per byte.
        smallest: smallest detectable effect (5 % level, 80 % power), bits per byte.
        noise: assumed standard deviation of one run.
        seconds: expected wall time on one worker, None if unknown.
        notes: what a reader should know before the plan is run.
    """

    design: str
    preset: Recipe
    techniques: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    trainings: int
    se: float
    smallest: float
    noise: float
    seconds: float | None = None
    notes: tuple[str, ...] = field(default=())

    def json(self) -> dict[str, Any]:
        """The plan as one JSON object, recipes by hash."""
        return {
            "design": self.design,
            "preset": self.preset.name,
            "techniques": list(self.techniques),
            "runs": len(self.recipes),
            "trainings": self.trainings,
            "seconds": self.seconds,
            "noise": self.noise,
            "se": _finite(self.se),
            "smallest": _finite(self.smallest),
            "recipes": [r.hash for r in self.recipes],
            "notes": list(self.notes),
        }

    def text(self, console: Any) -> None:
        """Print the plan to a `rich` console."""
        from rich.table import Table

        grid = Table(
            show_header=False, title=f"Plan: {self.design} ablation of {self.preset.name or 'a recipe'}", title_justify="left"
        )
        grid.add_row("techniques", f"{len(self.techniques)}: {', '.join(self.techniques)}")
        grid.add_row("runs", str(len(self.recipes)))
        grid.add_row(
            "trainings", f"{self.trainings} (the other {len(self.recipes) - self.trainings} differ only after training)"
        )
        grid.add_row(
            "expected time",
            "unknown until one run has been timed" if self.seconds is None else f"{self.seconds / 60:.0f} min on one worker",
        )
        shows = (
            f"{self.smallest:.4f} bits per byte"
            if math.isfinite(self.smallest)
            else "none: no degree of freedom is left for an error; add --seeds"
        )
        grid.add_row("smallest detectable effect", f"{shows} (5 % level, 80 % power, if one run's noise is {self.noise:.4f})")
        for note in self.notes:
            grid.add_row("note", note)
        console.print(grid)


def plan(
    preset: Recipe,
    design: str = "screen",
    *,
    techniques: Sequence[str | Technique] = (),
    seeds: int = 1,
    iso_size: bool = False,
    runs: int | None = None,
    forecaster: Callable[[Recipe], dict[str, float]] | None = None,
    existing: Sequence[Recipe] = (),
    noise: float | None = None,
    seconds_per_training: float | None = None,
    binding: bool = True,
) -> Plan:
    """Choose the recipes of an ablation.

    Args:
        preset: the recipe to take apart.
        design: one of `DESIGNS`. ``screen`` is folded Plackett-Burman where all its combinations are possible, and D-optimal
            over the possible ones where they are not.
        techniques: what to vary; by default what the preset has on. Names of the preset's techniques, or techniques to try
            on top (needed for ``add-one-in`` from a bare recipe).
        seeds: runs of every combination, with the same seeds in all of them (common random numbers).
        iso_size: widen or narrow the MLP of every recipe until it is as large as the preset (or as the limit, if that is
            less), so that the bytes a removed technique frees are given back.
        runs: number of combinations of a D-optimal design; by default as many as folded Plackett-Burman would take.
        forecaster: recipe -> low, mid and high bytes; by default the search's own. A combination whose middle forecast is
            over the limit is not possible.
        existing: recipes already run: a D-optimal design complements them.
        noise: standard deviation of one run, bits per byte; by default what is usual at the preset's scale.
        seconds_per_training: for the expected time.
        binding: whether the byte limit makes combinations impossible. `golflab.search.experiment.start.run_plan` must get the
        same value.

    Raises:
        ValueError: an unknown design or technique, nothing to vary, no possible combination, or a limit that excludes the
            combination that all others would be compared with.
    """
    if design not in DESIGNS:
        raise ValueError(f"ablate: unknown design {design!r}; it is one of {', '.join(DESIGNS)}.")
    if seeds < 1:
        raise ValueError(f"ablate: seeds={seeds} must be at least 1.")
    forecaster = Forecaster() if forecaster is None else forecaster
    noise = usual_noise(preset) if noise is None else noise
    switched = switched_techniques(preset, techniques)
    names = list(switched)
    size = int(forecaster(preset)["mid"])
    target = (min(preset.limit, size) if binding else size) if iso_size else None
    build = Builder(preset, switched, lambda r: forecaster(r)["mid"], target, binding)
    name, combinations, notes = combinations_of(design, names, build, runs, existing)
    if not binding:
        notes.append(_unbound(preset, size))
    kept, dropped = _possible(design, combinations, build, names)
    recipes = [build.recipe(c).with_(seed=preset.seed + s) for c in kept for s in range(seeds)]
    recipes = list({r.hash: r for r in recipes}.values())
    se, smallest, confounded = resolution(kept, names, seeds, noise)
    notes += dropped + ([f"cannot be told apart by these runs: {', '.join(confounded)}"] if confounded else [])
    trainings = len({training_key(r) for r in recipes})
    seconds = None if seconds_per_training is None else trainings * seconds_per_training
    return Plan(name, preset, tuple(names), tuple(recipes), trainings, se, smallest, noise, seconds, tuple(notes))


def _possible(
    design: str, combinations: list[Combination], build: Builder, names: list[str]
) -> tuple[list[Combination], list[str]]:
    """The possible combinations, each once, and notes about those that are left out.

    Raises:
        ValueError: fewer than two are possible, or the one that all others are compared with is not.
    """
    dropped, notes = [c for c in combinations if not build.possible(c)], list[str]()
    kept = list(dict.fromkeys(c for c in combinations if build.possible(c)))
    if dropped:
        notes.append(
            f"left out, because not possible: {len(dropped)} of {len(combinations)} combinations, e.g. "
            f"{reason_of(build, dropped[0], names)}"
        )
    if dropped and build.target is None and any("fit" in build.why_not(c) for c in dropped):
        notes.append("with --iso-size the MLP is narrowed until they fit")
    if len(kept) < 2:
        raise ValueError(
            "ablate: fewer than two combinations are possible, so nothing can be compared. Raise the byte limit or "
            "take other techniques."
        )
    if design in REFERRING and "fit" in build.why_not(combinations[0]):
        raise ValueError(
            f"ablate: the combination that all others are compared with is not possible: {build.why_not(combinations[0])}. "
            "Raise --limit, or leave it out: without it, the byte limit stops nothing in an ablation."
        )
    return kept, notes


def _unbound(preset: Recipe, size: int) -> str:
    """That the byte limit does not bind, and whether that matters here."""
    note = f"the byte limit of {preset.limit:,} stops nothing here (--limit BYTES makes it bind)"
    over = f"; {preset.name or 'the preset'} itself is forecast at {size:,}, over it"
    return note + (over if size > preset.limit else "")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
