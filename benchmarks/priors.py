"""Does a search gain from published effects where they hold, and what does it lose where they do not?

    python -m benchmarks.priors --out priors.jsonl

Worlds of `benchmarks.worlds`. Six in ten techniques have a published effect: the true one (averaged over the other parameters)
with an error of 0.002 bpb, as the published effects at full scale have. It is shrunk as in `golflab.analysis.evidence.prior`.
``right`` leaves the signs, ``half`` turns those of half of the published effects, ``wrong`` turns all. Each search is paired
with one without a prior: same world, same seed of the proposals. A search in the file is not repeated.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial, create_trial

from benchmarks.search_efficiency import Best, world_of
from benchmarks.worlds import World
from golflab.analysis.evidence.prior import shrunk
from golflab.search.sampler.encoding import Encoding
from golflab.search.sampler.fitting import FittingSampler
from golflab.search.sampler.prior import Expected
from golflab.search.sampler.problem import Problem

AT = (10, 25, 50, 100)
MODES = ("none", "right", "half", "wrong")
ERROR = 0.002  # bits per byte: the median standard deviation of a published effect in a new setting, at full scale
SHARE = 0.6  # of the techniques that have a published effect
CONTEXTS = 200  # combinations that a true effect is averaged over


def main_effects(world: World, names: list[str], rng: np.random.Generator) -> np.ndarray:
    """(names,) change of the true value when a switch is turned on, averaged over random combinations."""
    encoding = Encoding(world.space)
    drawn = [encoding.params(row) for row in encoding.draw(CONTEXTS, rng)]
    gains = [[world.value(p | {name: True}) - world.value(p | {name: False}) for p in drawn] for name in names]
    return np.mean(gains, axis=1)


def prior_of(world: World, number: int, mode: str) -> list[Expected]:
    """The expected effects of a world's techniques."""
    rng = np.random.default_rng([number, 11])
    names = [name for name in world.space if name.startswith("t") and rng.random() < SHARE]
    told = main_effects(world, names, rng) + ERROR * rng.standard_normal(len(names))
    turned = rng.permutation(len(names)) < {"right": 0, "half": len(names) // 2, "wrong": len(names)}[mode]
    effects = shrunk(np.where(turned, -told, told), np.full(len(names), ERROR**2))
    return [Expected(name, True, mean, sd) for name, (mean, sd) in zip(names, effects, strict=True)]


def search(world: World, number: int, mode: str) -> list[float]:
    """The true value of the measured best that fits, after each training."""
    prior = prior_of(world, number, mode) if mode != "none" else []
    problem = Problem(world.space, overrun=world.size, owners=world.owners, starts=world.starts)
    sampler = FittingSampler(problem, seed=number, prior=prior)
    best, trials = Best(world, number), list[FrozenTrial]()
    for at in range(AT[-1]):
        params = sampler.propose(trials, at).params
        trials.append(create_trial(value=best.train(params), params=params, distributions=world.space))
        trials[-1].number = at
    return best.history


def measure(kind: str, numbers: range, out: Path) -> None:
    """Run the searches that the file does not hold yet, and append them."""
    done = {(row["kind"], row["world"], row["mode"]) for row in read(out)}
    for number in numbers:
        for mode in MODES:
            if (kind, number, mode) in done:
                continue
            began = time.process_time()
            history = search(world_of(kind, number), number, mode)
            row = {"kind": kind, "world": number, "mode": mode, "best": [round(history[at - 1], 7) for at in AT]}
            with open(out, "a") as file:
                file.write(json.dumps(row | {"seconds": round(time.process_time() - began, 1)}) + "\n")


def read(out: Path) -> list[dict]:
    """The searches a file holds."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def tell(rows: list[dict]) -> None:
    """Print the means without a prior, and the paired differences to them with their standard errors; negative is a gain."""
    print("worlds    prior    n  " + "".join(f"{at:>22}" for at in AT))
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of = {mode: {r["world"]: np.array(r["best"]) for r in rows if (r["kind"], r["mode"]) == (kind, mode)} for mode in MODES}
        for mode, found in of.items():
            shared = sorted(set(found) & set(of["none"]))
            if not shared:
                continue
            if mode == "none":
                cells = [f"{mean:.4f}" for mean in np.nanmean([found[w] for w in shared], axis=0)]
            else:
                gaps = np.array([found[w] - of["none"][w] for w in shared])
                errors = gaps.std(axis=0, ddof=1) / len(shared) ** 0.5 if len(shared) > 1 else gaps[0] * np.nan
                cells = [f"{1e4 * g:+.1f} ± {1e4 * e:.1f} e-4" for g, e in zip(gaps.mean(axis=0), errors, strict=True)]
            print(f"{kind:<9} {mode:<6} {len(shared):>3}  " + "".join(f"{cell:>22}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default="pairs", choices=("pairs", "triples", "nonlinear", "tuned"))
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--first", type=int, default=2000, help="number of the first world")
    parser.add_argument("--out", type=Path, default=Path("priors.jsonl"), help="searches done, one a line")
    options = parser.parse_args()
    measure(options.kind, range(options.first, options.first + options.worlds), options.out)
    tell(read(options.out))


if __name__ == "__main__":
    main()
