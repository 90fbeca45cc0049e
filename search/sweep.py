"""A search from Python: ``search(...)`` starts one, ``resume(name)`` continues it, both return what was found."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import itertools
import json
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.files import write_atomic
from model.recipe import Recipe
from model.record import Record, records_in
from model.ways import Way
from search.clock import Clock
from search.confirm import confirmation
from search.feasible import check_plan, check_space, largest
from search.ledger import Ledger
from search.options import UNBOUNDED, Budget, Options
from search.storage import open_storage, read_experiment
from search.walk import REFUSED
from spaces.presets import PRESETS

PLAN = "plan.json"  # the recipes of an experiment that runs a list
MOVABLE = {"trials", "budget", "address", "cpus", "cpus_per_trial", "gpus_per_trial", "processes", "local_disk"}  # by `resume`


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        name: of the experiment.
        folder: where its records lie; `analysis.table` makes a DataFrame of them.
        best: the record with the fewest bits per byte among those that fit; None if none completed.
        counts: asked, not_fitting, trained, over_limit, pruned, failed, complete: `Ledger.counts`.
        finished: whether all that was asked for is done.
        reason: why it ended.
        seconds: it took, in this call.
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


def search(watcher: Any = None, **options: Any) -> Result:
    """Start a search and run it to its end.

    Args:
        watcher: a `search.bridge.Watcher` that hears what happens.
        **options: fields of `Options`.

    Raises:
        ValueError: an option that cannot be, before any work starts.
    """
    known = {f.name for f in dataclasses.fields(Options)}
    if unknown := set(options) - known:
        word = sorted(unknown)[0]
        near = difflib.get_close_matches(word, known, n=1)
        raise ValueError(
            f"search: unknown option {word!r}; "
            + (f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}.")
        )
    asked = fresh(validated(Options(**options)))
    check_space(asked.load_space(), _load(asked.forecaster)(), asked.seed)
    return _run(asked, watcher)


def fresh(options: Options) -> Options:
    """Return the options if no experiment has their name yet.

    Raises:
        ValueError: one has; the message says how to continue it.
    """
    if (options.folder / "experiment.json").exists():
        raise ValueError(
            f"There is an experiment called {options.name!r} already: `{options.resume_command}`, or choose another --name."
        )
    return options


def run_plan(recipes: Sequence[Recipe], watcher: Any = None, **options: Any) -> Result:
    """Run a list of recipes (an ablation's, say) as an experiment: scheduled, recorded and resumed like a search.

    Args:
        recipes: to run; one that cannot fit its limit is counted and not trained.
        watcher: a `search.bridge.Watcher` that hears what happens.
        **options: fields of `Options`; ``trials`` follows from the recipes.

    Raises:
        ValueError: nothing to run, or an option that cannot be.
    """
    unique = {recipe.hash: recipe.check() for recipe in recipes}
    if not unique:
        raise ValueError("run_plan: there is no recipe to run.")
    asked = fresh(validated(Options(**{"design": "plan"} | options | {"trials": len(unique)})))
    check_plan(list(unique.values()), _load(asked.forecaster)())
    return _run(asked, watcher, [recipe.to_json() for recipe in unique.values()])


def first(plan: Sequence[Recipe], watcher: Any = None, **options: Any) -> Result:
    """Run a plan, then let the sampler propose from what it showed: an experiment that begins with a design.

    Args:
        plan: to run before anything is proposed; the search's space must reach these recipes. The space's largest combination
            is asked for too, where it cannot fit: so the report shows what a refusal looks like.
        watcher: a `search.bridge.Watcher` that hears what happens.
        **options: fields of `Options`; ``trials`` counts the plan and the proposals.

    Raises:
        ValueError: an option that cannot be, or an experiment of this name.
    """
    asked = fresh(validated(Options(**options | {"design": "first"})))
    return _run(asked, watcher, [recipe.to_json() for recipe in plan], _ask_for_the_largest)


def _ask_for_the_largest(ledger: Ledger) -> None:
    params = largest(ledger.space, ledger.forecaster)
    if ledger.chance(ledger.space.recipe(params)) < REFUSED:
        ledger.enqueue(params)


def _read_plan(folder: Path) -> list[Recipe] | None:
    path = folder / PLAN
    return [Recipe.from_json(body) for body in json.loads(path.read_text())] if path.exists() else None


def resume(name: str, runs: str = "runs", watcher: Any = None, **changes: Any) -> Result:
    """Continue an experiment: nothing finished is repeated, what was running continues from its checkpoints.

    Args:
        name: of the experiment.
        runs: folder of experiments.
        watcher: a `search.bridge.Watcher` that hears what happens.
        **changes: options that may differ now: ``trials`` and ``budget`` extend it, ``address``, ``cpus``,
            ``processes`` and ``local_disk`` move it.

    Raises:
        ValueError: there is no such experiment, or an option that must stay was changed.
    """
    return _run(options_of(name, runs, **changes), watcher)


def options_of(name: str, runs: str, **changes: Any) -> Options:
    """The options an experiment was started with, and what may differ now.

    Raises:
        ValueError: there is no such experiment, or an option that must stay was changed.
    """
    fixed = set(changes) - MOVABLE
    if fixed:
        raise ValueError(f"resume: {sorted(fixed)[0]!r} is part of what the experiment is; start another one to change it.")
    kept = read_experiment(Path(runs).resolve() / name)["options"]
    return validated(Options(**kept | {"runs": runs} | {k: v for k, v in changes.items() if v is not None}))


def validated(options: Options) -> Options:
    """Return the options if a search can be run with them.

    Raises:
        ValueError: what it got, what is allowed and what to do.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", options.name):
        raise ValueError(f"name={options.name!r} must be 1 to 64 letters, digits, dots, dashes or underscores.")
    if options.trials < 1:
        raise ValueError(f"trials={options.trials} must be at least 1.")
    if options.variants < 0:
        raise ValueError(f"variants={options.variants} must not be negative.")
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"limit={options.limit} must be a positive number of bytes.")
    Budget.parse(options.budget)
    if options.confirm < 0:
        raise ValueError(f"confirm={options.confirm} must not be negative.")
    options.load_space()
    for text in options.finish:
        Way.parse(text).check(options.recipe())
    options.check_team()
    options.score_pruner()
    for dotted in (options.runner, options.forecaster):
        _load(dotted)
    writable(options.folder, keep=False)
    return options


def _run(
    options: Options,
    watcher: Any,
    plan: list[dict[str, Any]] | None = None,
    prepare: Callable[[Ledger], None] | None = None,
) -> Result:
    """Run an experiment; a cluster that cannot be had is said before a new one leaves anything behind."""
    if (options.folder / "experiment.json").exists():
        return _confirmed(options, _continued(options, watcher), watcher)
    with _connected(options, watcher):
        if plan is not None:
            options.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(options.folder / PLAN, json.dumps(plan).encode())
        return _confirmed(options, _continued(options, watcher, prepare), watcher)


def _confirmed(options: Options, result: Result, watcher: Any) -> Result:
    """Confirm what was found, where that was asked for: see `search.confirm`."""
    if not options.confirm or not result.finished or result.best is None or result.best.recipe == options.recipe().hash:
        return result
    inside, plan = confirmation(options, result.best)
    if watcher is not None:
        watcher.expects(len(plan))
    if (inside.folder / "experiment.json").exists():
        done = resume(inside.name, inside.runs, watcher)
    else:
        done = run_plan(plan, watcher, **{f.name: getattr(inside, f.name) for f in dataclasses.fields(Options)})
    return dataclasses.replace(result, finished=done.finished, seconds=result.seconds + done.seconds)


@contextlib.contextmanager
def _connected(options: Options, watcher: Any) -> Iterator[None]:
    """Hold the cluster that an experiment will run on.

    Raises:
        ValueError: there is none, or it has no room for a trial.
    """
    from search.cluster import cluster

    with cluster(options.address, options.cpus, watcher and watcher.starting) as found:
        found.workers(options.bundle(found.gpus, found.cores_per_gpu), options.team)
        yield


def _continued(options: Options, watcher: Any, prepare: Callable[[Ledger], None] | None = None) -> Result:
    """Open the ledger, bring up the cluster, let Tune run, write down how it ended."""
    from search.bridge import Watcher

    watcher = watcher or Watcher()
    started = time.monotonic()
    folder = options.folder
    ledger = open_ledger(options)
    try:
        ledger.reconcile()
        if prepare is not None:
            prepare(ledger)
        plan = _read_plan(folder) if options.design == "first" else None
        clock = Clock(options, ledger, None if plan is None else [recipe.hash for recipe in plan])
        clock.save("running")
        watcher.opened(clock.opening(watcher.shown))
        reason, interrupted = "", False
        if ledger.remaining() or ledger.has_orphans():
            reason, interrupted = _tune(options, ledger, watcher, clock)
        finished = not interrupted and not ledger.has_orphans()
        short = ledger.remaining() and options.trials < UNBOUNDED and reason
        clock.save("interrupted" if interrupted else "out of budget" if short else "finished", reason)
        return Result(options.name, folder, ledger.best(), ledger.counts(), finished, reason, time.monotonic() - started)
    finally:
        ledger.presence.leave()


def open_ledger(options: Options) -> Ledger:
    """Open (or create) the experiment's ledger."""
    options.folder.mkdir(parents=True, exist_ok=True)
    space = options.load_space()
    named = [name for name in PRESETS if not name.endswith("_as_published")]  # their quirks are no place to begin
    presets = [dataclasses.replace(options, preset=name).recipe().with_(limit=space.preset.limit) for name in named]
    starts = [recipe for recipe in presets if space.recipe(space.params(recipe)).hash == recipe.hash]
    storage = open_storage(options.storage, options.folder)
    plan = _read_plan(options.folder)
    return Ledger(
        options.folder,
        options.name,
        space,
        storage,
        _load(options.forecaster)(),
        options.trials,
        options.seed,
        pruner=options.score_pruner(),
        halving=options.halving is not None,
        variants=options.variants,
        starts=starts,
        screen=options.screen,
        plan=plan,
        proposes=options.proposes,
    )


def _tune(options: Options, ledger: Ledger, watcher: Any, clock: Clock) -> tuple[str, bool]:
    """Run Tune until the ledger has nothing more; return why it ended and whether it was interrupted."""
    from search.cluster import cluster, placement

    with cluster(options.address, options.cpus, watcher.starting) as found:
        from ray import tune
        from ray.exceptions import OutOfMemoryError

        from search.bridge import Halted, LedgerScheduler, LedgerSearcher
        from search.lookout import CannotImport, Lookout
        from search.trial import GolfTrial

        bundle, processes = options.bundle(found.gpus, found.cores_per_gpu), options.team
        workers = min(found.workers(bundle, processes), max(1, options.trials))
        watcher.placed(placement(workers, bundle, processes, found.gpus))
        clock.gpus_per_trial = bundle.get("GPU", 0.0) * processes
        cache = options.cache_folder
        team = {"processes": processes, "bundle": bundle, "local_disk": options.local_disk}
        settings = {"runner": options.runner, "cache": str(cache), "halving": options.halving} | team
        settings["measuring"] = json.dumps(options.measuring)
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
            name=options.name,
            storage_path=found.scratch,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=3),
            callbacks=[Lookout(watcher, options.runner)],
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
                # Tune survives a worker that dies, but not one that Ray ends because a node runs out of memory.
                if not isinstance(error.__cause__, OutOfMemoryError):
                    raise
                searcher.lost_all()


@contextlib.contextmanager
def _ending_like_ctrl_c() -> Iterator[None]:
    """Treat a request to terminate (a batch system's, say) like Ctrl-C; only a main thread can hear one."""
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


def _load(dotted: str) -> Callable[..., Any]:
    module, _, name = dotted.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{dotted!r} cannot be imported: {error}.") from None


def writable(folder: Path, keep: bool = True) -> None:
    """Create the folder, and raise a clear error unless it can be created and written.

    Args:
        folder: to write to.
        keep: whether a folder that was not there before stays.

    Raises:
        ValueError: it cannot.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / ".writable", b"")
        (folder / ".writable").unlink()
        with contextlib.suppress(OSError):  # somebody else uses it by now
            for path in () if keep else missing:
                path.rmdir()
    except OSError as error:
        raise ValueError(f"{folder} cannot be written: {error.strerror}. Choose another folder with --runs.") from None


def free_name(runs: Path, wish: str) -> str:
    """``wish``, or with a number behind it where an experiment of that name exists."""
    names = itertools.chain([wish], (f"{wish}-{n}" for n in itertools.count(2)))
    return next(name for name in names if not (runs / name).exists())
