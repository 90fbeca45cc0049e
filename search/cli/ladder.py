"""``golflab ladder``: which techniques will still help at full scale, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from golflab.search.cli.arguments import (
    Address,
    AllowOverlap,
    Budget,
    Corpus,
    Cpus,
    Gpus,
    Json,
    LocalDisk,
    Preset,
    Processes,
    Runs,
    Seed,
    err,
    out,
)
from golflab.search.cli.searches import conclude, watched
from golflab.search.terminal import show
from golflab.search.terminal.plain import say

if TYPE_CHECKING:  # these take a second to import, which no other command should wait for
    from golflab.analysis.ladder.allocation import Allocation
    from golflab.search.design.ladder import Pace, Rung, Rungs

app = typer.Typer()


@dataclass(frozen=True)
class Plan:
    """What a ladder will run, and how sure its predictions will be.

    Attributes:
        preset: its name.
        found: the rungs.
        allocation: seeds by rung and the expected intervals.
        workers: runs at the same time.
    """

    preset: str
    found: Rungs
    allocation: Allocation
    workers: int

    @property
    def seeds(self) -> list[int]:
        """By rung."""
        return [int(count) for count in self.allocation.rungs["seeds"]]

    def json(self) -> dict[str, Any]:
        """The plan as one JSON object."""
        from golflab.search.design.ladder import NOISE

        rows = self.allocation.rungs
        names = ["scale", "parameters", "tokens_per_parameter", "tokens", "seeds", "arms", "trainings", "seconds"]
        return {
            "preset": self.preset,
            "techniques": list(self.found.techniques),
            "runs": int((rows["seeds"] * rows["arms"]).sum()),
            "trainings": int((rows["seeds"] * rows["trainings"]).sum()),
            "seconds": self.allocation.seconds,
            "workers": self.workers,
            "rungs": rows[names].to_dict("records"),
            "half_width": self._widths(),
            "noise": NOISE,
            "notes": list(self.found.notes),
        }

    def text(self, console: Any) -> None:
        """Print the plan to a `rich` console."""
        told = self.json()
        columns = dict.fromkeys(
            ("scale", "parameters", "tokens per parameter", "seeds", "runs", "trainings", "minutes"), "right"
        )
        rows = [
            [
                row["scale"],
                f"{row['parameters']:,}",
                f"{row['tokens_per_parameter']:g}",
                str(row["seeds"]),
                str(row["seeds"] * row["arms"]),
                str(row["seeds"] * row["trainings"]),
                f"{row['seeds'] * row['seconds'] / 60:.0f}",
            ]
            for row in told["rungs"]
        ]
        console.print(show.table(f"Plan: a ladder of {self.preset}, {len(told['techniques'])} techniques", columns, rows))
        minutes = told["seconds"] / 60 / self.workers
        took = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
        wide = sorted(set(told["half_width"].values()))
        say(
            console,
            f"{told['runs']} runs, {told['trainings']} of them trainings: about {took} on {self.workers} worker(s).",
        )
        say(
            console,
            "Expected 90 % prediction interval at full scale: "
            + "; ".join(f"± {w:.4f} for {', '.join(n for n, v in told['half_width'].items() if v == w)}" for w in wide)
            + f". It is worked out before any run, from a noise of {told['noise']:g} bits per byte a seed.",
        )
        for note in told["notes"]:
            say(console, f"Note: {note}")

    def _widths(self) -> dict[str, float]:
        """Half of each technique's expected prediction interval."""
        quiet = {name for rung in self.found.rungs for name in _sharing(rung)}
        return {
            name: self.allocation.half_width_quiet if name in quiet else self.allocation.half_width
            for name in self.found.techniques
        }


def _sharing(rung: Rung) -> set[str]:
    """Techniques that act after training: their arm shares the preset's."""
    from golflab.search.ledger.problem import training_key

    own = training_key(rung.base)
    return {name for name, recipe in rung.arms.items() if name and training_key(recipe) == own}


def plan(preset: str, found: Rungs, pace: dict[str, Pace], budget: float, workers: int) -> Plan:
    """Choose the seeds on every rung.

    Args:
        preset: its name.
        found: of `golflab.search.design.ladder.rungs`.
        pace: of each scale.
        budget: seconds on the clock; infinite gives every rung two seeds.
        workers: runs at the same time.

    Raises:
        ValueError: the budget is too small.
    """
    import pandas as pd

    from golflab.analysis.ladder.allocation import allocate
    from golflab.search.design.ladder import NOISE, parameters

    rows = [
        {
            "scale": rung.scale,
            "parameters": parameters(rung),
            "tokens_per_parameter": rung.tokens_per_parameter,
            "tokens": rung.base.schedule.tokens,
            "arms": len(rung.arms),
            "trainings": rung.trainings,
            "seconds": rung.seconds(pace[rung.scale]),
            "noise": NOISE,
        }
        for rung in found.rungs
    ]
    return Plan(preset, found, allocate(pd.DataFrame(rows), None if math.isinf(budget) else budget * workers), workers)


@app.command()
def ladder(
    preset: Preset,
    technique: Annotated[
        list[str] | None,
        typer.Option(help="What to measure: one of the preset's, or NAME[:knob=value,…] on top; all by default."),
    ] = None,
    scales: Annotated[str, typer.Option(help="Scales, joined by commas: nano, micro, proxy, small.")] = "nano,micro",
    durations: Annotated[str, typer.Option(help="Training tokens per parameter, joined by commas.")] = "5,20",
    budget: Budget = None,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Print the plan and its price; run nothing.")] = False,
    corpus: Corpus = None,
    allow_overlap: AllowOverlap = False,
    seed: Seed = 0,
    name: Annotated[str | None, typer.Option(help="Name of the experiment.")] = None,
    runs: Runs = Path("runs"),
    address: Address = None,
    cpus: Cpus = None,
    gpus_per_trial: Gpus = None,
    processes: Processes = None,
    local_disk: LocalDisk = None,
    as_json: Json = False,
) -> None:
    """Measure techniques on several scales and durations, and predict what each is worth at full scale."""
    from golflab.search.design import ladder as designs
    from golflab.search.engine.cluster import cores
    from golflab.search.engine.standing import Budget as Bound
    from golflab.search.experiment import start as sweep
    from golflab.search.experiment.checks import free_name
    from golflab.search.experiment.identity import absolute

    asked = [part.strip() for part in scales.split(",") if part.strip()]
    found = designs.rungs(
        preset, asked, _numbers(durations), technique or (), corpus=corpus, seed=seed, allow_overlap=allow_overlap or None
    )
    bound = Bound.parse(budget or "").seconds
    say(err, "Preparing the text and measuring how fast this machine is …")
    pace = designs.measure(found, runs.resolve() / "cache")
    made = plan(preset, found, pace, bound, cpus or cores())
    if plan_only:
        show.emit(made.json()) if as_json else made.text(out)
        return
    made.text(err)
    recipes = [recipe.with_(**absolute(recipe.data)) for recipe in found.recipes(made.seeds)]
    options: dict[str, Any] = {
        "preset": preset,
        "scale": asked[0],
        "corpus": corpus,
        "allow_overlap": allow_overlap,
        "seed": seed,
    }
    options |= {"design": "ladder", "binding": False, "name": name or free_name(runs, f"{preset}-ladder"), "runs": str(runs)}
    options |= {"address": address, "cpus": cpus, "gpus_per_trial": gpus_per_trial, "processes": processes}
    options |= {"local_disk": local_disk, "trials": len(recipes), "rungs": False, "float_score": False}
    checked = sweep.asked(options, recipes)
    conclude(watched(checked, lambda watcher: sweep.run_plan(recipes, watcher, **options)), as_json)


def _numbers(text: str) -> list[float]:
    """Durations from the command line.

    Raises:
        ValueError: one is no number above 0.
    """
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = []
    if not found or min(found) <= 0:
        raise ValueError(f"durations={text!r} must be numbers above 0, joined by commas, like 5,20,80.")
    return found
