"""How often the audit catches planted cheats, by which condition, and how often it accuses honest evaluators.

    python -m benchmarks.audit_power [--seeds 20] [--positions 300] [--processes 2]

Every cheat and every honest evaluator of `tests.cheats` is audited on a text of its own for every seed. Then come cheats that
act seldom or little, for the limits. Prints the table of docs/audit.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from golflab.model.audit.judge import audit
from tests import cheats

NEVER = 1e9  # seconds: what is found must not depend on how fast the machine is
SPARSE = (10, 100, 1000)


class PeeksOneIn(cheats.PeeksWhere):
    """Looks at the token behind the target at one place in k, drawn at random, in any text."""

    def __init__(self, k):
        self.k = k

    def where(self, tokens):
        return np.random.default_rng(99).random(len(tokens) - 1) < 1 / self.k


class PeeksOneInLate(PeeksOneIn):
    """The same, in the second half of the whole text only."""

    def where(self, tokens):
        return super().where(tokens) & (np.arange(len(tokens) - 1) > cheats.TOKENS // 2)


class MassOneIn(cheats.Fixed):
    """Its probabilities sum to ``mass`` at one place in k, drawn at random by the last two tokens, and to one elsewhere."""

    def __init__(self, k, mass):
        self.k, self.mass = k, mass

    def score(self, tokens):
        before = np.append(0, tokens[:-2])
        drawn = np.random.default_rng(99).random((cheats.VOCABULARY, cheats.VOCABULARY))[before, tokens[:-1]]
        return super().score(tokens) - np.log(self.mass) * (drawn < 1 / self.k)


def _seldom():
    cases = {f"looks ahead at one place in {k}": (PeeksOneIn, k) for k in SPARSE}
    cases |= {f"the same, in the second half of the whole text only, one in {k}": (PeeksOneInLate, k) for k in SPARSE[:2]}
    cases |= {f"mass 3 at one place in {k}": (MassOneIn, k, 3.0) for k in SPARSE}
    return cases | {f"mass {mass} everywhere": (MassOneIn, 1, mass) for mass in (1.3, 1.03, 1.003)}


SELDOM = _seldom()


def one(job):
    """Audit one evaluator on one text: name, names of breached conditions."""
    kind, name, seed, positions = job
    if kind == "seldom":
        cls, *arguments = SELDOM[name]
        made = cls(*arguments)
    else:
        made = cheats.HONEST[name]() if kind == "honest" else cheats.CHEATS[name].make()
    result = audit(made, cheats.text(seed=seed), decode=cheats.decode, seed=seed, positions=positions, budget=NEVER)
    return kind, name, result.breaches


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=100, help="first seed; others than the tests' own")
    parser.add_argument("--positions", type=int, default=300)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    groups = {"honest": cheats.HONEST, "cheat": cheats.CHEATS, "seldom": SELDOM}
    seeds = range(options.first, options.first + options.seeds)
    jobs = [(kind, name, seed, options.positions) for kind, names in groups.items() for name in names for seed in seeds]
    found = {(kind, name): [] for kind, name, _, _ in jobs}
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for kind, name, breaches in pool.map(one, jobs, chunksize=options.seeds):
            found[kind, name].append(breaches)
    print(f"| family | evaluator | caught of {options.seeds} | by |\n|---|---|---|---|")
    for (kind, name), all_breaches in found.items():
        caught = sum(bool(b) for b in all_breaches)
        by = ", ".join(f"{n} {count}" for n, count in Counter(n for b in all_breaches for n in b).most_common())
        family = cheats.CHEATS[name].family if kind == "cheat" else kind
        print(f"| {family} | {name} | {caught} | {by} |", flush=True)


if __name__ == "__main__":
    main()
