"""How good is the best combination after 25, 50 and 100 trainings? Ours against what others would use, on the same worlds.

    python -m benchmarks.search_efficiency --kinds pairs triples nonlinear tables --out efficiency.jsonl
    python -m benchmarks.search_efficiency --kinds pairs --methods gp --worlds 12 --out efficiency.jsonl

Every method gets the same worlds and the same noise seeds, so differences are paired. A peer's combination that does not
fit costs a training, as it does its users; what counts is the true value of the measured best among those that fit. Every
search is kept in the file as soon as it is done, and one that is there is not repeated.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks.hard_worlds import HARD
from benchmarks.worlds import TABLES, World, planted, table, tuned, with_knobs
from golflab.search.sampler.encoding import Encoding
from golflab.search.sampler.fitting import FittingSampler
from golflab.search.sampler.problem import Problem

AT = (25, 50, 100)
ASKS = 200  # that "TPE + check" makes for one training
KINDS = ("pairs", "triples", "nonlinear", "tables", "tuned", *HARD)
FIRST = 100  # the sampler's constants were chosen on worlds 0 to 59 and 1000 to 1249


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


def ours_with_variants(world: World, seed: int, budget: int, per_training: int = 4) -> Best:
    """The fitting sampler where a third of the parameters act after training: trials that reuse a training cost none."""
    later = [*(f"t{i}" for i in range(27, 40)), "bits"]
    rest = [name for name in world.space if name not in later]
    training = lambda params: tuple(params[name] for name in rest)
    sampler = FittingSampler(
        Problem(world.space, overrun=world.size, training=training, after_training=later), seed=seed, variants=per_training
    )
    best, trials, trained = Best(world, seed), list[FrozenTrial](), set()
    while len(trained) < budget:
        params = sampler.propose(trials, len(trials)).params
        trials.append(create_trial(value=best.train(params), params=params, distributions=world.space))
        trials[-1].number = len(trials) - 1
        if training(params) in trained:
            best.history[-2:] = best.history[-1:]
        trained.add(training(params))
    return best


def ours(world: World, seed: int, budget: int, workers: int = 1) -> Best:
    """The fitting sampler; with several workers, a proposal is made while the others' trials are running."""
    sampler = FittingSampler(Problem(world.space, overrun=world.size, owners=world.owners, starts=world.starts), seed=seed)
    best, trials = Best(world, seed), list[FrozenTrial]()
    for number in range(budget + workers - 1):
        if number < budget and (params := sampler.propose(trials, number).params) is not None:
            trials.append(create_trial(state=TrialState.RUNNING, params=params, distributions=world.space))
            trials[-1].number = number
        if number >= workers - 1 and (running := [t for t in trials if t.state == TrialState.RUNNING]):
            running[0].value, running[0].state = best.train(running[0].params), TrialState.COMPLETE
    best.history += best.history[-1:] * (budget - len(best.history))
    return best


def optuna_peer(build: Callable[[int], BaseSampler], constrained: bool = True) -> Callable[[World, int, int], Best]:
    """An Optuna sampler; it is told how far each combination is over the limit, after it was trained."""

    def run(world: World, seed: int, budget: int) -> Best:
        study, best = optuna.create_study(sampler=build(seed)), Best(world, seed)
        for start in world.starts:
            study.enqueue_trial(start)
        for _ in range(budget):
            trial = study.ask(world.space)
            if constrained:
                trial.set_constraint("size", world.size(trial.params) - 1)
            study.tell(trial, best.train(trial.params))
        return best

    return run


def asked_until_it_fits(world: World, seed: int, budget: int) -> Best:
    """Optuna's multivariate TPE; what does not fit is not trained, and it is asked again ("TPE + check").

    It knows what ours knows: the exact size before a training, and which knobs count (a knob is suggested only while its
    technique is on, and ``group=True`` models it by the trials that had it). A refused combination is not told: as a bad trial
    it would teach the sampler to avoid the neighbourhood of the limit, where the best ones are. After `ASKS` asks the first
    random combination that fits is trained.
    """
    study = optuna.create_study(sampler=TPESampler(seed=seed, multivariate=True, group=True, constant_liar=False))
    best, encoding = Best(world, seed), Encoding(world.space)
    drawn = map(encoding.params, encoding.draw(20_000, np.random.default_rng([seed, 6])))
    starts = [start for start in world.starts if world.size(start) <= 1]
    for number in range(budget):
        asks = [starts[number]] if number < len(starts) else (suggested(study, world) for _ in range(ASKS))
        found = next((params for params in asks if world.size(params) <= 1), None)
        params = found or in_use(next(params for params in drawn if world.size(params) <= 1), world)
        rules = {name: world.space[name] for name in params}
        study.add_trial(create_trial(value=best.train(params), params=params, distributions=rules))
    return best


def suggested(study: optuna.Study, world: World) -> dict:
    """What a study's sampler proposes next. The ask is told as failed, without parameters: samplers ignore that."""
    trial = study.ask()
    together, sampler, frozen = trial.relative_params or {}, study.sampler, create_trial(state=TrialState.RUNNING)
    alone = lambda name: sampler.sample_independent(study, frozen, name, world.space[name])
    params = {name: together[name] if name in together else alone(name) for name in world.space}
    study.tell(trial, state=TrialState.FAIL)
    return in_use(params, world)


def in_use(params: dict, world: World) -> dict:
    """The parameters that count: knobs only while their techniques are on."""
    count = lambda name: name not in world.owners or params[world.owners[name][0]] == world.owners[name][1]
    return {name: value for name, value in params.items() if count(name)}


def ray_optuna(world: World, seed: int, budget: int) -> Best:
    """Ray's OptunaSearch, with the constraint set in its define-by-run space: the way its users have."""
    from ray.tune.search.optuna import OptunaSearch

    def space(trial: optuna.Trial) -> None:
        params = {
            name: trial.suggest_int(name, rule.low, rule.high, step=rule.step)
            if isinstance(rule, IntDistribution)
            else trial.suggest_categorical(name, rule.choices)
            for name, rule in world.space.items()
        }
        trial.set_constraint("size", world.size(params) - 1)

    known = list(world.starts) or None
    searcher = OptunaSearch(space=space, metric="value", mode="min", seed=seed, points_to_evaluate=known)
    best = Best(world, seed)
    for number in range(budget):
        params = searcher.suggest(str(number))
        searcher.on_trial_complete(str(number), {"value": best.train(params)})
    return best


METHODS: dict[str, Callable[[World, int, int], Best]] = {
    "ours": ours,
    "variants": ours_with_variants,
    "ours x8": lambda world, seed, budget: ours(world, seed, budget, workers=8),
    "random": optuna_peer(lambda seed: RandomSampler(seed=seed), constrained=False),
    "ray optuna": ray_optuna,
    "tpe": optuna_peer(lambda seed: TPESampler(seed=seed)),
    "tpe+check": asked_until_it_fits,
    "gp": optuna_peer(lambda seed: GPSampler(seed=seed)),
}


def world_of(kind: str, number: int) -> World:
    if kind == "tables":
        return table(TABLES[number % len(TABLES)])
    if kind in HARD:
        return HARD[kind](number)
    return tuned(number) if kind == "tuned" else planted(number, kind)


def measure(kinds: list[str], methods: list[str], numbers: range, out: Path) -> None:
    """Run what the file does not hold yet, world by world, and append it."""
    done = {(row["kind"], row["world"], row["method"]) for row in read(out)}
    for kind in kinds:
        for number in numbers:
            for method in methods:
                if (kind, number, method) in done:
                    continue
                began = time.process_time()
                history = METHODS[method](world_of(kind, number), number, AT[-1]).history
                row = {"kind": kind, "world": number, "method": method, "best": [round(history[at - 1], 7) for at in AT]}
                with open(out, "a") as file:
                    file.write(json.dumps(row | {"seconds": round(time.process_time() - began, 1)}) + "\n")


def read(out: Path) -> list[dict]:
    """The searches a file holds."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def tell(rows: list[dict], reference: str = "ours") -> None:
    """Print every method's means, and the paired differences of ``reference`` to it, with standard errors."""
    for kind in [kind for kind in KINDS if any(row["kind"] == kind for row in rows)]:
        found = {
            m: {r["world"]: dict(zip(AT, r["best"], strict=True)) for r in rows if (r["kind"], r["method"]) == (kind, m)}
            for m in METHODS
        }
        for method, runs in found.items():
            if runs:
                means = np.nanmean([list(best.values()) for best in runs.values()], axis=0)
                print(f"{kind:>10} {method:>10}  " + "  ".join(f"{m:.5f}" for m in means) + f"  (n={len(runs)})")
        for method, runs in found.items():
            shared = [w for w in found[reference] if w in runs]
            if method == reference or len(shared) < 2:
                continue
            cells = []
            for mine, theirs in ((25, 25), (25, 100), (100, 100)):
                gap = np.array([found[reference][w][mine] - runs[w][theirs] for w in shared])
                gap = gap[np.isfinite(gap)]
                cells.append(f"{mine} vs {theirs}: {gap.mean():+.5f} ± {gap.std(ddof=1) / len(gap) ** 0.5:.5f}")
            print(f"{kind:>10} {reference} − {method:<10} " + ", ".join(cells) + f"  (n={len(shared)})")


def ask_time() -> None:
    """Milliseconds to propose with 1,000 finished trials, 45 choices and 15 numbers."""
    world = with_knobs(planted(0), 15)
    encoding, sampler = Encoding(world.space), FittingSampler(Problem(world.space, overrun=world.size))
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
    parser.add_argument("--first", type=int, default=FIRST, help="number of the first world")
    parser.add_argument("--kinds", nargs="*", default=["pairs"], choices=KINDS)
    parser.add_argument("--methods", nargs="+", default=["ours", "random", "ray optuna", "tpe"], choices=list(METHODS))
    parser.add_argument("--out", type=Path, default=Path("efficiency.jsonl"), help="searches done, one a line")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ask_time()
    measure(options.kinds, options.methods, range(options.first, options.first + options.worlds), options.out)
    tell(read(options.out))


if __name__ == "__main__":
    main()
