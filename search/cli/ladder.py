"""``golflab ladder``: which techniques will still help at full scale, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    clock_seconds,
    err,
    numbers,
    out,
    took,
)
from golflab.search.cli.results import conclude, watched
from golflab.search.terminal import show
from golflab.search.terminal.plain import say

if TYPE_CHECKING:  # these take a second to import, which no other command should wait for
    from golflab.analysis.ladder.allocation import Allocation
    from golflab.model.recipe import Recipe
    from golflab.search.design.ladder import Pace, Rung, Rungs
    from golflab.search.experiment.options import Options

app = typer.Typer()
DESIGN = "ladder"


@dataclass(frozen=True)
class Plan:
    """What a ladder will run, and how sure its predictions will be.

    Attributes:
        preset: its name.
        found: the rungs.
        pace: of each scale.
        allocation: seeds by rung and the expected intervals.
        workers: runs at the same time.
        before: what the plan of the experiment holds already.
    """

    preset: str
    found: Rungs
    pace: dict[str, Pace]
    allocation: Allocation
    workers: int
    before: tuple[Recipe, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """By rung."""
        return [int(count) for count in self.allocation.rungs["seeds"]]

    def recipes(self) -> list[Recipe]:
        """What is to be run that the experiment does not have yet."""
        known = {recipe.hash for recipe in self.before}
        return [recipe for recipe in self.found.recipes(self.seeds) if recipe.hash not in known]

    def json(self) -> dict[str, Any]:
        """The plan as one JSON object; runs, trainings and seconds are those that are new."""
        rungs = [self._row(rung, seeds) for rung, seeds in zip(self.found.rungs, self.seeds, strict=True)]
        told: dict[str, Any] = {"preset": self.preset, "techniques": list(self.found.techniques)}
        told |= {name: sum(row[name] for row in rungs) for name in ("runs", "trainings", "seconds")}
        told |= {"workers": self.workers, "rungs": rungs, "half_width": self._widths()}
        noise = sorted(set(self.allocation.rungs["noise"]))
        return told | {"noise": noise[0] if len(noise) == 1 else noise, "notes": list(self.found.notes)}

    def _row(self, rung: Rung, seeds: int) -> dict[str, Any]:
        """One rung."""
        from golflab.search.design.ladder import parameters
        from golflab.search.ledger.problem import training_key

        known = {recipe.hash for recipe in self.before}
        new = [recipe for recipe in rung.runs(seeds) if recipe.hash not in known]
        told = {"scale": rung.scale, "parameters": parameters(rung), "tokens_per_parameter": rung.tokens_per_parameter}
        told |= {"tokens": rung.base.schedule.tokens, "seeds": seeds, "arms": len(rung.arms), "runs": len(new)}
        trainings = len({training_key(recipe) for recipe in new})
        return told | {"trainings": trainings, "seconds": rung.price(self.pace[rung.scale], new)}

    def text(self, console: Any) -> None:
        """Print the plan to a `rich` console."""
        told = self.json()
        names = ("scale", "parameters", "tokens per parameter", "seeds", "runs", "trainings", "minutes")
        rows = [
            [row["scale"], f"{row['parameters']:,}", f"{row['tokens_per_parameter']:g}"]
            + [str(row[name]) for name in ("seeds", "runs", "trainings")]
            + [f"{row['seconds'] / 60:.0f}"]
            for row in told["rungs"]
        ]
        more = ", extended" if self.before else ""
        title = f"Plan: a ladder of {self.preset}{more}, {len(told['techniques'])} techniques"
        console.print(show.table(title, dict.fromkeys(names, "right"), rows))
        runs = f"{told['runs']} {'new ' if self.before else ''}runs, {told['trainings']} of them trainings"
        say(console, f"{runs}: about {took(told['seconds'] / self.workers)} on {self.workers} worker(s).")
        self._say_widths(console, told)
        for note in told["notes"]:
            say(console, f"Note: {note}")

    def _say_widths(self, console: Any, told: dict[str, Any]) -> None:
        wide = sorted(set(told["half_width"].values()))
        noise = told["noise"]
        basis = (
            f"It is worked out before any run, from a noise of {noise:g} bits per byte a seed."
            if isinstance(noise, float)
            else f"It is worked out from what ran: a seed's noise is {noise[0]:.2g} to {noise[-1]:.2g} bits per byte, by rung."
        )
        shares = "; ".join(f"± {w:.4f} for {', '.join(n for n, v in told['half_width'].items() if v == w)}" for w in wide)
        say(console, f"Expected 90 % prediction interval at full scale: {shares}. {basis}")

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


def plan(
    preset: str,
    found: Rungs,
    pace: dict[str, Pace],
    budget: float,
    workers: int,
    before: Sequence[Recipe] = (),
    told: Any = None,
) -> Plan:
    """Choose the seeds on every rung.

    Args:
        preset: its name.
        found: of `golflab.search.design.ladder.rungs`.
        pace: of each scale.
        budget: seconds on the clock, for what is new; infinite gives every rung two seeds.
        workers: runs at the same time.
        before: what has run or will run in any case.
        told: `golflab.analysis.ladder.findings.LadderFindings` of what ran. Its noise and its model's numbers are then used in
            place of those that are assumed before any run.

    Raises:
        ValueError: the budget is too small.
    """
    import numpy as np
    import pandas as pd

    from golflab.analysis.ladder.allocation import allocate, measured_noise
    from golflab.search.design.extend import seeds_done
    from golflab.search.design.ladder import NOISE, parameters

    rows = [
        {
            "parameters": parameters(rung),
            "tokens_per_parameter": rung.tokens_per_parameter,
            "seconds": rung.seconds(pace[rung.scale]),
            "noise": NOISE,
        }
        for rung in found.rungs
    ]
    table, done = pd.DataFrame(rows), np.array(seeds_done(found, before))
    if told is not None:
        table["noise"] = measured_noise(told.model, table)
    seconds = None if math.isinf(budget) else budget * workers
    thetas = None if told is None else told.model.thetas
    return Plan(preset, found, pace, allocate(table, seconds, done=done, thetas=thetas), workers, tuple(before))


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
    from golflab.search.experiment import start as sweep
    from golflab.search.experiment.checks import free_name

    asked = [part.strip() for part in scales.split(",") if part.strip()]
    found = designs.rungs(
        preset, asked, numbers(durations), technique or (), corpus=corpus, seed=seed, allow_overlap=allow_overlap or None
    )
    bound = clock_seconds(budget)
    if name and (runs / name / "experiment.json").exists():
        moved: dict[str, Any] = {"address": address, "cpus": cpus, "gpus_per_trial": gpus_per_trial, "processes": processes}
        extend(sweep.options_of(name, runs, **moved, local_disk=local_disk), bound, found, plan_only=plan_only, as_json=as_json)
        return
    say(err, "Preparing the text and measuring how fast this machine is …")
    pace = designs.measure(found, runs.resolve() / "cache")
    made = plan(preset, found, pace, bound, cpus or cores())
    if plan_only:
        show.emit(made.json()) if as_json else made.text(out)
        return
    made.text(err)
    options: dict[str, Any] = {"preset": preset, "scale": asked[0], "corpus": corpus, "allow_overlap": allow_overlap}
    options |= {"design": DESIGN, "binding": False, "name": name or free_name(runs, f"{preset}-ladder"), "runs": str(runs)}
    options |= {"address": address, "cpus": cpus, "gpus_per_trial": gpus_per_trial, "processes": processes, "seed": seed}
    options |= {"local_disk": local_disk, "trials": len(made.recipes()), "rungs": False, "float_score": False}
    checked = sweep.asked(options, made.recipes())
    conclude(watched(checked, lambda watcher: sweep.run_plan(made.recipes(), watcher, **options)), as_json)


def extend(
    options: Options, bound: float, asked: Rungs | None = None, *, plan_only: bool = False, as_json: bool = False
) -> None:
    """Add seeds, and the rungs and techniques that are asked for, to a ladder that has run; then run what is new.

    Args:
        options: of the experiment.
        bound: seconds on the clock for the whole ladder, what it has taken so far included; infinite gives every new rung two
            seeds.
        asked: rungs besides those that ran.
        plan_only: only print what would be run.
        as_json: print JSON.

    Raises:
        ValueError: it is no ladder, it cannot be extended so, or the budget buys nothing.
    """
    from golflab.analysis.ladder.findings import ladder_findings
    from golflab.analysis.table import read
    from golflab.search.design import extend as designs
    from golflab.search.design.ladder import measure
    from golflab.search.engine.cluster import cores
    from golflab.search.experiment import start
    from golflab.search.experiment.folder import append, read_plan

    before = read_plan(options.folder)
    if options.design != DESIGN or not before:
        raise ValueError(f"{options.name} exists, and it is no ladder; choose another --name.")
    found, workers = designs.rungs_of(before), options.cpus or cores()
    found = found if asked is None else designs.merged(found, asked)
    say(err, "Measuring how fast this machine is …")
    pace, ran = measure(found, options.cache_folder), designs.finished(options.folder)
    spent = designs.seconds_spent(options.folder) + designs.seconds_left(found, pace, before, ran) / workers
    told = ladder_findings(read(options.folder)) if ran else None
    made = plan(options.preset or "", found, pace, bound - spent, workers, before, told)
    if not made.recipes():
        more = f" The runs of its plan take about {took(spent)} in all." if math.isfinite(bound) else ""
        raise ValueError(
            f"{options.name}: nothing can be added.{more} Give a larger --budget, which is for the whole ladder, or more "
            f"scales, durations or techniques with `golflab ladder … --name {options.name}`."
        )
    if plan_only:
        show.emit(made.json()) if as_json else made.text(out)
        return
    made.text(err)
    longer = append(options, made.recipes())
    conclude(watched(longer, lambda watcher: start.go_on(longer, watcher)), as_json)
