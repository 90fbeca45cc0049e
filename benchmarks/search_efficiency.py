"""How good is the best combination after 25, 50 and 100 trainings? Ours against what others would use, on the same worlds.

    python -m benchmarks.search_efficiency --worlds 20 --kinds pairs triples nonlinear graphs --out efficiency.csv

Every method gets the same worlds and the same noise seeds, so differences are paired. A peer's combination that does not
fit costs a training, as it does its users; what counts is the true value of the measured best among those that fit.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, create_trial

from benchmarks.worlds import World, graphs, planted, with_knobs
from search.encoding import Encoding
from search.sampler import FittingSampler

AT = (25, 50, 100)
DATASETS = ("cora", "citeseer", "pubmed", "cs", "physics", "photo", "computers", "arxiv")


class Best:
    """Keeps the true value of the measured best that fits, after each training."""

    def __init__(self, world: World, seed: int) -> None:
        self._world, self._rng, self._best = world, np.random.default_rng([seed, 5]), (np.inf, np.nan)
        self.history: list[float] = []

    def train(self, params: dict) -> float:
        measured = self._world.measured(params, self._rng)
        if self._world.size(params) <= 1 and measured < self._best[0]:
            self._best = measured, self._world.value(params)
        self.history.append(self._best[1])
        return measured


def ours(world: World, seed: int, budget: int) -> Best:
    sampler, best, trials = FittingSampler(world.space, overrun=world.size, seed=seed), Best(world, seed), list[FrozenTrial]()
    for number in range(budget):
        params = sampler.propose(trials, number).params
        if params is None:
            best.history += [best.history[-1]] * (budget - number)
            break
        trial = create_trial(value=best.train(params), params=params, distributions=world.space)
        trial.number = number
        trials.append(trial)
    return best


def optuna_peer(build: Callable[[int], BaseSampler], constrained: bool = True) -> Callable[[World, int, int], Best]:
    """An Optuna sampler; it is told how far each combination is over the limit, after it was trained."""

    def run(world: World, seed: int, budget: int) -> Best:
        study, best = optuna.create_study(sampler=build(seed)), Best(world, seed)
        for _ in range(budget):
            trial = study.ask(world.space)
            if constrained:
                trial.set_constraint("size", world.size(trial.params) - 1)
            study.tell(trial, best.train(trial.params))
        return best

    return run


def ray_optuna(world: World, seed: int, budget: int) -> Best:
    """Ray's OptunaSearch, with the constraint set in its define-by-run space: the way its users have."""
    from ray.tune.search.optuna import OptunaSearch

    def space(trial: optuna.Trial) -> None:
        params = {name: trial._suggest(name, rule) for name, rule in world.space.items()}
        trial.set_constraint("size", world.size(params) - 1)

    searcher, best = OptunaSearch(space=space, metric="value", mode="min", seed=seed), Best(world, seed)
    for number in range(budget):
        params = searcher.suggest(str(number))
        searcher.on_trial_complete(str(number), {"value": best.train(params)})
    return best


METHODS: dict[str, Callable[[World, int, int], Best]] = {
    "ours": ours,
    "random": optuna_peer(lambda seed: RandomSampler(seed=seed), constrained=False),
    "ray optuna": ray_optuna,
    "tpe": optuna_peer(lambda seed: TPESampler(seed=seed)),
    "gp": optuna_peer(lambda seed: GPSampler(seed=seed)),
}


def world_of(kind: str, number: int) -> World:
    return graphs(DATASETS[number % len(DATASETS)], number) if kind == "graphs" else planted(number, kind)


def compare(kind: str, worlds: int, slow: int, methods: list[str], out: csv.DictWriter) -> None:
    """Run all methods on the worlds of one kind and print paired differences to ours."""
    found: dict[str, np.ndarray] = {}
    for method in methods:
        rows = []
        for number in range(slow if method == "gp" else worlds):
            history = METHODS[method](world_of(kind, number), number, AT[-1]).history
            rows.append([history[at - 1] for at in AT])
            for at, value in zip(AT, rows[-1], strict=True):
                out.writerow({"kind": kind, "world": number, "method": method, "trainings": at, "value": value})
        found[method] = np.array(rows)
        print(f"{kind:>10} {method:>10}  " + "  ".join(f"{m:.5f}" for m in np.nanmean(found[method], axis=0)), flush=True)
    for method in methods[1:]:
        n = len(found[method])
        pairs = {"25 vs its 100": (0, 2), "25 vs its 25": (0, 0), "100 vs its 100": (2, 2)}
        for label, (mine, theirs) in pairs.items():
            gap = found["ours"][:n, mine] - found[method][:, theirs]
            print(
                f"{kind:>10} ours at {label:<14} {method:<10} {np.mean(gap):+.5f} ± {np.std(gap, ddof=1) / n**0.5:.5f} (n={n})"
            )


def ask_time() -> None:
    """Milliseconds to propose with 1,000 finished trials, 45 choices and 15 numbers."""
    world = with_knobs(planted(0), 15)
    encoding, sampler = Encoding(world.space), FittingSampler(world.space, overrun=world.size)
    trials = []
    for number, row in enumerate(encoding.draw(1000, np.random.default_rng(0))):
        params = encoding.params(row)
        trials.append(create_trial(value=world.value(params), params=params, distributions=world.space))
        trials[-1].number = number
    sampler.propose(trials, 1000)
    times = []
    for number in range(1000, 1009):
        start = time.process_time()
        sampler.propose(trials, number)
        times.append(time.process_time() - start)
    print(f"ask at 1,000 trials, {len(world.space)} parameters: {1e3 * np.median(times):.0f} ms of CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--slow", type=int, default=12, help="worlds for GPSampler, which takes seconds per proposal")
    parser.add_argument("--kinds", nargs="+", default=["pairs"], choices=["pairs", "triples", "nonlinear", "graphs"])
    parser.add_argument("--methods", nargs="+", default=["ours", "random", "ray optuna", "tpe"], choices=list(METHODS))
    parser.add_argument("--out", type=Path, default=None, help="CSV of every number")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ask_time()
    with open(options.out or "/dev/null", "w", newline="") as file:
        out = csv.DictWriter(file, ["kind", "world", "method", "trainings", "value"])
        out.writeheader()
        for kind in options.kinds:
            compare(kind, options.worlds, options.slow, options.methods, out)


if __name__ == "__main__":
    sys.exit(main())
