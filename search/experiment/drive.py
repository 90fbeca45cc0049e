"""One process drives an experiment: it opens the ledger, starts the cluster, runs Tune, and saves how it ended."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golflab.model.recipe import Recipe
from golflab.model.record import Record, records_in
from golflab.search.engine.standing import UNBOUNDED
from golflab.search.experiment.again import renew
from golflab.search.experiment.checks import load
from golflab.search.experiment.clock import Clock
from golflab.search.experiment.folder import Experiment, read_plan
from golflab.search.experiment.options import REFERRING, Options
from golflab.search.ledger.book import check_known
from golflab.search.ledger.ledger import Ledger
from golflab.search.ledger.problem import RecipeProblem, expected
from golflab.search.ledger.requested import Plan
from golflab.search.ledger.storage import check_journal, open_storage, study_in
from golflab.search.sampler.fitting import FittingSampler
from golflab.spaces.presets import PRESETS


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        name: of the experiment.
        folder: where its records lie; `golflab.analysis.table` makes a DataFrame of them.
        best: the record with the fewest bits per byte among those that fit; None if there is none.
        counts: asked, not_fitting, trained, over_limit, pruned, failed, complete: `Ledger.counts`.
        finished: whether all trials are done.
        reason: why it ended.
        seconds: wall time of this call.
    """

    name: str
    folder: Path
    best: Record | None
    counts: dict[str, int]
    finished: bool
    reason: str
    seconds: float

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per record, best first: what ``pandas.DataFrame`` takes."""
        records = [record for _, record in records_in(self.folder / "trials")]
        ranked = sorted(records, key=lambda r: math.inf if r.bpb is None or r.state != "complete" else r.bpb)
        return [r.summary() | {"techniques": sorted(r.spec["techniques"])} for r in ranked]


@contextlib.contextmanager
def connected(options: Options, watcher: Any = None) -> Iterator[None]:
    """Keep the cluster running that an experiment will use; a watcher is told that Ray starts.

    Raises:
        ValueError: there is no cluster, or it has no room for a trial.
    """
    from golflab.search.engine.cluster import cluster

    with cluster(options.address, options.cpus, watcher and watcher.starting) as found:
        found.workers(options.bundle(found.gpus, found.cores_per_gpu), options.team)
        yield


def drive(
    options: Options,
    own: Experiment,
    watcher: Any,
    prepare: Callable[[Ledger], None] | None = None,
    failed: bool = False,
) -> Result:
    """Run an experiment until all trials are done, or it is interrupted.

    Args:
        options: of it.
        own: its identity.
        watcher: a `golflab.search.engine.searcher.Watcher` that is called for every event.
        prepare: called with the ledger before anything is asked for.
        failed: whether failed trials are run again.
    """
    from golflab.search.engine.searcher import Watcher

    watcher = watcher or Watcher()
    started = time.monotonic()
    plan = read_plan(options.folder)
    ledger = open_ledger(options, own.study, plan)
    try:
        check_known(options.folder, ledger.trials())
        ledger.reconcile()
        if prepare is not None:
            prepare(ledger)
        if failed:
            renew(ledger)
        clock = Clock(options, ledger, plan, own, _compared(options, plan))
        clock.save("running")
        watcher.opened(clock.opening(watcher.shown))
        reason, interrupted = "", False
        if ledger.remaining() or ledger.has_orphans():
            reason, interrupted = _tune(options, ledger, watcher, clock, own)
        finished = not interrupted and not ledger.has_orphans()
        short = ledger.remaining() and options.trials < UNBOUNDED and reason and reason != clock.hopeless()
        clock.save("interrupted" if interrupted else "out of budget" if short else "finished", reason)
        took = time.monotonic() - started
        return Result(options.name, options.folder, ledger.best(), ledger.counts(), finished, reason, took)
    finally:
        ledger.presence.leave()


def _compared(options: Options, plan: Sequence[Recipe] | None) -> str:
    """Hash of an ablation's reference, if the byte limit may stop it; else an empty text."""
    return plan[0].hash if plan and options.binds and options.design in REFERRING else ""


def open_ledger(options: Options, study: str | None = None, plan: Sequence[Recipe] | None = None) -> Ledger:
    """Open the ledger of an experiment.

    Args:
        options: of it.
        study: its study's name; by default what its storage holds.
        plan: recipes to run before anything is proposed; by default those in its folder.

    Raises:
        ValueError: its storage cannot be opened.
    """
    if options.storage is None:
        check_journal(options.folder)
    options.folder.mkdir(parents=True, exist_ok=True)
    space = options.load_space()
    named = [
        name for name in PRESETS if not name.endswith("_as_published")
    ]  # these reproduce faults of published code, and are bad starts
    presets = [options.around(name).with_(limit=space.preset.limit) for name in named]
    starts = [recipe for recipe in presets if space.recipe(space.params(recipe)).hash == recipe.hash]
    storage = open_storage(options.storage, options.folder)
    problem = RecipeProblem(space, load(options.forecaster)(), starts)
    seed = space.preset.seed if options.seed is None else options.seed
    design = {} if options.screen is None else {"design": options.screen}
    return Ledger(
        options.folder,
        study or study_in(storage, {}, options.storage, options.folder),
        storage,
        problem,
        options.trials,
        sampler=FittingSampler(problem, prior=expected(options.prior, space), variants=options.variants, seed=seed, **design),
        pruner=options.score_pruner(),
        halving=options.halving is not None,
        plan=Plan(plan or read_plan(options.folder), options.proposes, options.binds),
    )


def _tune(options: Options, ledger: Ledger, watcher: Any, clock: Clock, own: Experiment) -> tuple[str, bool]:
    """Run Tune until the ledger proposes nothing more; return why it ended and whether it was interrupted."""
    from golflab.search.engine.cluster import cluster
    from golflab.search.engine.resources import placement

    with cluster(options.address, options.cpus, watcher.starting) as found:
        from ray import tune
        from ray.exceptions import OutOfMemoryError

        from golflab.search.engine.monitor import CannotImport, ClusterMonitor
        from golflab.search.engine.searcher import Halted, LedgerScheduler, LedgerSearcher
        from golflab.search.engine.trainable import GolfTrial

        bundle, processes = options.bundle(found.gpus, found.cores_per_gpu), options.team
        workers = min(found.workers(bundle, processes), max(1, options.trials))
        watcher.placed(placement(workers, bundle, processes, found.gpus))
        clock.gpus_per_trial = bundle.get("GPU", 0.0) * processes
        cache = options.cache_folder
        team = {"processes": processes, "bundle": bundle, "local_disk": options.local_disk}
        settings = {"runner": options.runner, "cache": str(cache), "halving": options.halving} | team
        settings["measuring"] = json.dumps(options.measuring)
        settings["texts"] = {name: facts["fingerprint"] for name, facts in own.identity["data"].items()}
        searcher = LedgerSearcher(ledger, clock.wrap(watcher), settings, clock.may_start)
        scheduler = LedgerScheduler(ledger, clock.wrap(watcher))
        trainable = tune.with_resources(GolfTrial, tune.PlacementGroupFactory([bundle] * processes))
        config = tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=workers,
            reuse_actors=True,
        )
        kept = tune.RunConfig(
            name="golflab",
            storage_path=found.scratch,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=3),
            callbacks=[ClusterMonitor(watcher, options.runner)],
        )
        while True:
            try:
                with _ending_like_ctrl_c():
                    tune.Tuner(trainable, tune_config=config, run_config=kept).fit()
                return searcher.ended_because, False
            except KeyboardInterrupt as why:
                if found.borrowed:
                    scheduler.end_trials()
                if isinstance(why, CannotImport):
                    clock.save("interrupted", str(why))
                    raise ValueError(str(why)) from None
                said = f"{why}; make room and" if isinstance(why, Halted) else "interrupted;"
                return f"{said} continue with `{options.resume_command}`", True
            except RuntimeError as error:
                # Tune continues after a worker dies, but not after Ray has killed one because a node ran out of memory.
                if not isinstance(error.__cause__, OutOfMemoryError):
                    raise
                searcher.lost_all()


@contextlib.contextmanager
def _ending_like_ctrl_c() -> Iterator[None]:
    """Handle SIGTERM (from a batch system, say) like Ctrl-C; only the main thread can receive it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
