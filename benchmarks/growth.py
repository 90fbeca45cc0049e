"""How a search's own costs grow with its trials: resuming, proposing, booking a finished trial, and what Tune keeps of each.

    python -m benchmarks.growth                      # 250 to 2,000 trials
    python -m benchmarks.growth --trials 1000 10000
    python -m benchmarks.growth --quick              # 50 and 100 trials, a minute of one core at the most
    python -m benchmarks.growth --trials 1000 --profile

Searches are made up: random combinations of a real space, with a journal, records and forecasts as real ones leave them.
Times are processor seconds. The last lines give, for every cost, the ratio of the largest search to the smallest, and the
power of the number of trials with which it grows: 0 does not grow, 1 grows in proportion.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import math
import pickle
import pstats
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats  # noqa: F401 imported before anything is timed
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from golflab.model.record import Record
from golflab.model.submission.script import code_bytes
from golflab.search.engine.searcher import LedgerSearcher, Watcher
from golflab.search.ledger.forecast import Forecaster
from golflab.search.ledger.ledger import Ledger
from golflab.search.ledger.problem import RecipeProblem
from golflab.search.ledger.storage import JOURNAL, open_storage
from golflab.spaces.catalogue import space as find_space
from golflab.spaces.presets import preset

RUNGS = (32, 64, 96)
ASKED = 5  # proposals that are timed


class Memory(BaseJournalBackend):
    """A journal in memory, written to its file at the end: making up a search waits for no disk."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.lines += [json.dumps(log, separators=(",", ":")) for log in logs]

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        return (json.loads(line) for line in self.lines[log_number_from:])


def make_up(folder: Path, trials: int, space: str) -> None:
    """A finished search of so many trials: its journal and its records."""
    memory, rng = Memory(), np.random.default_rng(0)
    book = opened(folder, space, trials + ASKED, JournalStorage(memory))
    effects = {name: rng.normal(0, 0.004) for name in book.problem.space}
    seen: set[str] = set()
    encoding = book.sampler._encoding
    while len(seen) < trials:
        params = book.problem.canonical_of(encoding.params(encoding.draw(1, rng)[0]))
        recipe = book.problem.recipes.recipe(params)
        if recipe.hash in seen:
            continue
        seen.add(recipe.hash)
        attrs = {"asked": 1, "not_fitting": 0, "source": "posterior"}
        proposal = book._entries.enter(recipe, params, dict(book.problem.space), attrs)
        bpb = 2.2 + sum(effects[name] for name, value in params.items() if value is True) + rng.normal(0, 0.0007)
        size = int(min(proposal.forecast["mid"], recipe.limit - 1000) * (1 + 0.005 * rng.normal()))
        for step in RUNGS:
            rung = {"step": step, "tokens": 4096 * step, "seconds": 0.3 * step, "progress": step / 128}
            book.rungs.report(proposal.number, rung | {"bpb": bpb + 0.4 * (1 - step / 128), "bytes": size})
        book.finish(proposal.number, record(recipe, bpb, min(size, recipe.limit)))
    book.presence.leave()
    (folder / JOURNAL).write_text("".join(line + "\n" for line in memory.lines))


def record(recipe: Any, bpb: float, size: int) -> Record:
    """What a finished run of the proxy leaves."""
    body = Record(recipe.hash, recipe.seed, recipe.name, "complete", recipe.to_json(), bpb=bpb, bpb_float=bpb - 0.01)
    body.bytes, body.code_bytes, body.seconds, body.tokens = size, code_bytes(recipe), 38.4, 524_288
    body.curve = [
        {"step": s, "tokens": 4096 * s, "seconds": 0.3 * s, "loss": 6.9 - 4.4 * (s / 128) ** 0.3} for s in range(8, 129, 8)
    ]
    return body


def opened(folder: Path, space: str, target: int, storage: Any = None) -> Ledger:
    """The ledger of such a search."""
    varied = find_space(space, preset("baseline", "proxy").with_(limit=1_200_000))
    return Ledger(folder, "growth", storage or open_storage(None, folder), RecipeProblem(varied, Forecaster()), target)


def resumed(folder: Path, space: str, trials: int) -> Ledger:
    """What `golflab resume` does before the first proposal."""
    book = opened(folder, space, trials + ASKED)
    book.reconcile()
    book.has_orphans()
    book.counts(), book.spent(), book.agreements()
    LedgerSearcher(book, Watcher(), {})
    return book


def costs(folder: Path, trials: int, space: str, profile: bool) -> dict[str, float]:
    """Processor seconds to resume, to ask and to book the end of a trial; bytes that Tune keeps of one more trial."""
    make_up(folder, trials, space)
    found: dict[str, float] = {}
    found["resume, s"], book = timed(lambda: resumed(folder, space, trials), profile)
    searcher = LedgerSearcher(book, Watcher(), {"runner": "golflab.model.run:run", "cache": "cache"})
    asked, booked, kept = [], [], []
    for k in range(ASKED):
        seconds, config = timed(lambda k=k: searcher.suggest(f"t{k}"), profile and k == ASKED - 1)
        asked.append(seconds)
        kept.append(len(pickle.dumps(config)))
        proposal = searcher._running[f"t{k}"]
        done = record(proposal.recipe, 2.2, int(proposal.forecast["mid"]))

        def book_it(k: int = k, done: Record = done) -> None:
            searcher.on_trial_complete(f"t{k}", {"record": json.dumps(vars(done))})
            book.counts(), book.spent(), book.agreements()

        booked.append(timed(book_it, profile and k == ASKED - 1)[0])
    book.presence.leave()
    return found | {
        "ask, s": statistics.median(asked),
        "book, s": statistics.median(booked),
        "kept by Tune, bytes": statistics.median(kept),
    }


def timed(action: Callable[[], Any], profile: bool = False) -> tuple[float, Any]:
    """Processor seconds and result of an action; what it spends them on is printed if that is asked for."""
    watch = cProfile.Profile()
    before = time.process_time()
    result = watch.runcall(action) if profile else action()
    seconds = time.process_time() - before
    if profile:
        pstats.Stats(watch).sort_stats("cumulative").print_stats(25)
    return seconds, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[250, 500, 1000, 2000])
    parser.add_argument("--space", default="starter")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    sizes = [50, 100] if options.quick else sorted(options.trials)
    table = []
    for trials in sizes:
        with tempfile.TemporaryDirectory() as place:
            table.append(costs(Path(place), trials, options.space, options.profile))
        print(f"{trials:>6,} trials  " + "  ".join(f"{name} {value:,.3f}" for name, value in table[-1].items()), flush=True)
    for name, first in table[0].items():
        if len(sizes) > 1 and first > 0:
            ratio = table[-1][name] / first
            power = math.log(ratio) / math.log(sizes[-1] / sizes[0])
            print(f"{name}: × {ratio:.2f} from {sizes[0]:,} to {sizes[-1]:,} trials, power {power:+.2f}")


if __name__ == "__main__":
    main()
