"""Experiments made without a cluster, in a fraction of a second, as a search makes them: for tests of folders."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import fake_runs

from golflab.model.record import Record
from golflab.search.experiment import start
from golflab.search.experiment.checks import load
from golflab.search.experiment.clock import Clock
from golflab.search.experiment.drive import Result, open_ledger
from golflab.search.experiment.folder import begin, create
from golflab.search.experiment.options import Options
from golflab.search.experiment.start import asked

FAKE = {"runner": "fake_runs:run", "forecaster": "fake_runs:Forecaster", "limit": 640_000, "cpus": 1}


def made(runs: Path, name: str, trials: int = 3, failing: int = 0, left: int = 0, **options) -> Path:
    """An experiment of so many trials, of which the first few failed and the last few are still to be run; its folder."""
    told = FAKE | {"name": name, "runs": str(runs), "trials": trials} | options
    plan = told.pop("plan", None)
    found = asked(told, plan)
    own = begin(found, plan)
    create(found, own, plan)
    drive(found, own, trials - left, failing)
    return found.folder


def drive(options: Options, own, trials: int, failing: int = 0) -> None:
    """Run trials as a driver does, until there are so many."""
    ledger = open_ledger(options, own.study)
    ledger.target, left = trials, failing
    while (proposal := ledger.propose()) is not None:
        folder, recipe = ledger.trial_folder(proposal.recipe.hash), proposal.recipe
        if left > 0:
            left -= 1
            record = Record(recipe.hash, recipe.seed, recipe.name, "failed", recipe.to_json(), reason="gone", trained=False)
            record.save(folder)
        else:
            record = fake_runs.run(recipe, folder, options.cache_folder)
        ledger.finish(proposal.number, record)
    Clock(options, ledger, None, own).save("finished" if ledger.target == options.trials else "interrupted")
    ledger.presence.leave()


def without_ray() -> dict[str, object]:
    """Let this process run what it searches and ablates by itself, at once; options that make each run take no time."""
    start.connected = lambda options, watcher=None: contextlib.nullcontext()
    start.drive = driven
    return FAKE | {"runner": "fake_runs:finishing"}


def driven(options: Options, own, *_, **__) -> Result:
    """What `golflab.search.experiment.drive.drive` does, in this process."""
    ledger = open_ledger(options, own.study)
    while (proposal := ledger.propose()) is not None:
        place = ledger.trial_folder(proposal.recipe.hash)
        ledger.finish(proposal.number, load(options.runner)(proposal.recipe, place, options.cache_folder))
    Clock(options, ledger, None, own).save("finished")
    ledger.presence.leave()
    return Result(options.name, options.folder, ledger.best(), ledger.counts(), True, "", 0.0)


def text(path: Path, word: str = "king", documents: int = 30) -> Path:
    """Write a small corpus."""
    path.write_text("\n".join(json.dumps({"text": f"The {word} rode out on day {i}."}) for i in range(documents)))
    return path
