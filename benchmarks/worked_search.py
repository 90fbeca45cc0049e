"""A worked search that a sceptic would accept: does a search beat the five seeds when they get what it gets? (docs/seeds.md)

    python -m benchmarks.worked_search --corpus TEXT --trainings 15 --processes 2

Every contender has the same byte limit, the same training tokens and the same number of trainings to choose its best recipe:

* each seed submission, with the MLP as wide as the limit allows, tuned by golflab's sampler over its own knobs;
* three searches each by golflab's sampler, by Optuna's TPE that asks again until a combination fits ("TPE + check"), and at
  random among combinations that fit, in the space ``seeds`` (all techniques of the five, their knobs and shapes).

All are chosen on the development part, without anything that learns from the text it scores. Every finished run is a line of a
file in ``--folder``; started again, it goes on where it was. What follows is in ``benchmarks/worked_finish.py``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks.search_efficiency import ASKS, in_use, suggested
from benchmarks.worked_contenders import LIMIT, SEEDS, everything, narrowed, own_knobs, seed_preset, sized
from benchmarks.worlds import World
from golflab.model.recipe import Recipe
from golflab.model.record import load_documents
from golflab.model.run import run
from golflab.search.ledger.forecast import Forecaster
from golflab.search.ledger.problem import RecipeProblem
from golflab.search.sampler.fitting import FittingSampler
from golflab.spaces.space import Space

FAR = 1.02  # times the limit: so much too large is more than knobs bring down
METHODS = ("ours", "tpe+check", "random")


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where a phase runs: text, folder of results and stage cache, device, and when it must stop (`time.time`)."""

    corpus: str
    folder: Path
    device: str
    until: float

    def place(self, recipe: Recipe) -> Recipe:
        """A recipe on this text."""
        return recipe.with_(corpus=self.corpus, allow_overlap=True)

    def out_of_time(self) -> bool:
        return time.time() > self.until


# ------------------------------------------------------------------------------------------------ search


class Stream:
    """One contender's trainings, one after the other, kept in a file.

    Args:
        contender: a seed's name, or one of `METHODS`.
        number: of the search, which seeds it.
        setting: where it runs.
    """

    def __init__(self, contender: str, number: int, setting: Setting) -> None:
        self.contender, self.number, self.setting = contender, number, setting
        self.file = setting.folder / "search" / f"{contender.replace('+', '_')}-{number}.jsonl"
        self.lines: list[dict[str, Any]] = []
        self.trials: list[FrozenTrial] = []
        if contender in SEEDS:
            self._vary(own_knobs(seed_preset(contender)))
        else:
            self._vary(everything(), [narrowed(seed_preset(name)) for name in SEEDS])
        for line in read(self.file):
            self._learn(line)

    def _vary(self, space: Space, starts: Sequence[Recipe] = ()) -> None:
        self.space, self.problem = space, RecipeProblem(space, Forecaster(), starts)

    def go_on(self, trainings: int) -> None:
        """Train so often, or until the time is over. The last training is the best recipe, brought to the limit."""
        while self.trainings < trainings and not self.setting.out_of_time():
            params = self.propose()
            recipe = self.space.recipe(params)
            if self.trainings == trainings - 1 and (found := best(self.lines)) is not None:
                params, recipe = found["params"], sized(recipe_of(found), self.problem.forecaster)
            line = {"contender": self.contender, "search": self.number, "trial": len(self.lines), "params": params}
            line |= trained(recipe, self.setting)
            append(self.file, line)
            self._learn(line)

    @property
    def trainings(self) -> int:
        """How many were begun: a combination that cannot be run is no training."""
        return sum(line["state"] != "refused" for line in self.lines)

    def propose(self) -> dict[str, Any]:
        """The next combination that fits and was not tried."""
        method = "ours" if self.contender in SEEDS else self.contender
        if method == "ours":
            found = FittingSampler(self.problem, seed=self.number).propose(self.trials, len(self.trials)).params
            if found is None:
                raise ValueError(f"{self.contender}: no combination is left that fits.")
            return found
        tried = {self.problem.key(line["params"]) for line in self.lines}
        fits = lambda params: (
            self._can_run(params) and self.problem.chance(params) >= 0.5 and self.problem.key(params) not in tried
        )
        return next(filter(fits, map(self.problem.canonical, self._candidates(method))))

    def _can_run(self, params: dict[str, Any]) -> bool:
        try:
            self.space.recipe(params).check()
        except ValueError:
            return False
        return True

    def _candidates(self, method: str) -> Iterator[dict[str, Any]]:
        yield from self.problem.starts
        rng = np.random.default_rng([self.number, len(self.lines)])
        if method == "tpe+check":
            world = World("", self.problem.space, lambda p: 0.0, lambda p: 0.0, lambda p, r: 0.0, self.problem.owners)
            study = optuna.create_study(
                sampler=TPESampler(seed=int(rng.integers(2**31)), multivariate=True, group=True, constant_liar=False)
            )
            for trial in self.trials:
                if trial.state == TrialState.COMPLETE:
                    used = in_use(trial.params, world)
                    rules = {name: self.problem.space[name] for name in used}
                    study.add_trial(create_trial(value=trial.value, params=used, distributions=rules))
            full = self.problem.defaults or {}
            yield from (full | suggested(study, world) for _ in range(ASKS))
        yield from map(self.problem.encoding.params, self.problem.encoding.draw(20_000, rng))

    def _learn(self, line: dict[str, Any]) -> None:
        """Enter a finished training. A seed whose first one is far over the limit is fitted again by what that showed."""
        self.lines.append(line)
        if self.contender in SEEDS and len(self.lines) == 1 and line["observed"] and line["bytes"] > FAR * LIMIT:
            forecaster = Forecaster()
            forecaster.recall(line["observed"])
            self._vary(own_knobs(sized(seed_preset(self.contender), forecaster)))
        state = TrialState.COMPLETE if line["bpb"] is not None else TrialState.FAIL
        trial = create_trial(state=state, value=line["bpb"], params=line["params"], distributions=self.problem.space)
        trial.number = len(self.trials)
        self.trials.append(trial)
        if line["observed"]:
            self.problem.recall(line["observed"])


def trained(recipe: Recipe, setting: Setting, documents: bool = False) -> dict[str, Any]:
    """Run a recipe; what a line keeps of its record, with the bits of every document if asked for."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        keep, cache = Path(place) if documents else None, setting.folder / "cache"
        record = run(setting.place(recipe), keep, cache, device=setting.device, compiled=False, rungs=False, float_score=False)
        told = load_documents(Path(place)) if documents and record.state == "complete" else None
    keys = ("state", "reason", "bytes", "code_bytes", "parameters", "seconds", "stages")
    score = record.bpb if record.bpb is not None and np.isfinite(record.bpb) else None
    forecaster = Forecaster()
    return {
        "spec": recipe.to_json(),
        "bpb": score,
        "fits": score is not None and record.fits,
        **{key: getattr(record, key) for key in keys},
        "observed": forecaster.learn(record),
        "device": record.machine["device"],
        "wall": round(time.perf_counter() - began, 2),
        **({} if told is None else {"documents": {"bits": told[0].round(1).tolist(), "bytes": told[1].tolist()}}),
    }


def search(setting: Setting, trainings: int, processes: int) -> None:
    """All streams, side by side; each process takes the next stream when one is done or out of time."""
    jobs = [(name, 0) for name in SEEDS] + [(method, number) for number in range(3) for method in METHODS]
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        work = functools.partial(_stream, setting=setting, trainings=trainings)
        for said in pool.imap_unordered(work, jobs, chunksize=1):
            print(said, flush=True)


def _stream(job: tuple[str, int], setting: Setting, trainings: int) -> str:
    quiet()
    stream = Stream(*job, setting)
    stream.go_on(trainings)
    found = best(stream.lines)
    said = "none fits" if found is None else f"best {found['bpb']:.4f} with {found['bytes']:,} bytes"
    return f"{job[0]:>10} {job[1]}: {stream.trainings} trainings, {said}"


def best(lines: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The line with the fewest bits per byte among those that fit."""
    return min((line for line in lines if line["fits"]), key=lambda line: line["bpb"], default=None)


def recipe_of(line: dict[str, Any]) -> Recipe:
    """A line's recipe, on the embedded text."""
    return Recipe.from_json(line["spec"])


# ------------------------------------------------------------------------------------------------ files


def read(file: Path) -> list[dict[str, Any]]:
    """The finished runs of a file; a torn last line is left out."""
    lines = file.read_text().splitlines() if file.exists() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def append(file: Path, line: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as out:
        out.write(json.dumps(line) + "\n")


def quiet() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="sotu")
    parser.add_argument("--folder", type=Path, default=Path("runs/worked"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--trainings", type=int, default=15, help="of each contender")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="no training starts after so many")
    given = parser.parse_args()
    quiet()
    setting = Setting(given.corpus, given.folder, given.device, time.time() + given.seconds)
    search(setting, given.trainings, given.processes)


if __name__ == "__main__":
    main()
