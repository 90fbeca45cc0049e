"""Drivers without a cluster, which die by the dozen: ``python drivers.py FOLDER TARGET DEATHS SEED``."""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import fake_runs
from optuna.trial import TrialState

from golflab.model.record import records_in
from golflab.search.ledger.ledger import Ledger
from golflab.search.ledger.problem import RecipeProblem
from golflab.search.ledger.storage import open_storage
from golflab.search.sampler.fitting import FittingSampler
from golflab.spaces.presets import preset
from golflab.spaces.space import Space

fork = multiprocessing.get_context("fork")  # everything is imported once


def ledger(folder: Path, target: int) -> Ledger:
    """A ledger over a few techniques, whose sampler only screens: asking is quick."""
    techniques = ("xsa", "smear_gate", "ln_scale", "value_residual", "leaky_relu_squared", "gated_attention", "ema", "cosine")
    space = Space("small", preset("baseline").with_(limit=640_000), techniques=techniques)
    problem = RecipeProblem(space, fake_runs.Forecaster())
    sampler = FittingSampler(problem, design=target)
    return Ledger(folder, "test", open_storage(None, folder), problem, target, sampler=sampler)


def drive(folder: Path, target: int, largest: int | None = None) -> None:
    """What a driver does: adopt, propose, run, tell; with files of a limited size where that is given."""
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    book = ledger(folder, target)
    book.reconcile()
    waiting = book.orphans()
    while (proposal := waiting.pop() if waiting else book.propose()) is not None:
        record = fake_runs.run(proposal.recipe, book.trial_folder(proposal.recipe.hash), folder / "cache", seconds=0.04)
        book.finish(proposal.number, record)


def die(folder: Path, target: int, deaths: int, chance: random.Random) -> int:
    """Kill one or two drivers at work on one study, again and again; return how many were killed before they had ended."""
    killed = 0
    while killed < deaths:
        drivers = [fork.Process(target=drive, args=(folder, target)) for _ in range(chance.choice((1, 2)))]
        for driver in drivers:
            driver.start()
        before = _witness(folder)
        while chance.random() < 0.98 and any(d.is_alive() for d in drivers) and _witness(folder) == before:
            time.sleep(0.01)  # most are killed at work, a few while they start
        for driver in drivers:
            driver.join(timeout=chance.uniform(0.0, 0.3))
            driver.kill()
            driver.join()
        if not any(driver.exitcode for driver in drivers):
            break
        killed += sum(driver.exitcode != 0 for driver in drivers)
    return killed


def _witness(runs: Path) -> int:
    path = runs / "cache" / "evaluations.jsonl"
    return path.stat().st_size if path.exists() else 0


def witnessed(runs: Path) -> dict[str, Counter[str]]:
    """How often each recipe was started and ended, as its runs noted it."""
    lines = [json.loads(line) for line in (runs / "cache" / "evaluations.jsonl").read_text().splitlines()]
    return {what: Counter(line["recipe"] for line in lines if line["what"] == what) for what in ("start", "end")}


def repeats_and_losses(folder: Path, runs: Path, book: Ledger, target: int) -> tuple[int, int]:
    """Runs that ended more than once, and trials without an end or a record; the study and the records must agree."""
    ends = witnessed(runs)["end"]
    kept = [t for t in book.study.get_trials() if not t.user_attrs.get("withdrawn")]
    there = {record.recipe for _, record in records_in(folder / "trials")}
    done = [t for t in kept if t.state == TrialState.COMPLETE and t.user_attrs["recipe"] in there]
    assert len({t.user_attrs["recipe"] for t in kept}) == len(kept)
    return sum(ends.values()) - len(ends), target - len(done)


if __name__ == "__main__":
    place, wanted = Path(sys.argv[1]), int(sys.argv[2])
    print(die(place, wanted, int(sys.argv[3]), random.Random(int(sys.argv[4]))))
    drive(place, wanted)
