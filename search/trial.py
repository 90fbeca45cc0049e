"""What a worker does: run one recipe after another, reporting rungs and hearing whether to go on.

A worker is a long-lived process, so that torch is imported and data is mapped once, not once per trial. The run itself is a
plain function that calls back at rungs; it runs in a thread, and the callback waits until Tune's next `step`, by which
time the driver has asked the pruner.
"""

from __future__ import annotations

import importlib
import json
import queue
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune

from model.calibration import Calibration
from model.recipe import Recipe
from model.record import Record

Runner = Callable[..., Record]
OnRung = Callable[[dict[str, Any]], str | None]
Message = tuple[str, dict[str, Any]]


class Session:
    """One run in a thread, held at each rung until it is told to go on or to stop."""

    def __init__(self, runner: Runner, recipe: Recipe, folder: Path, cache: Path, **settings: Any) -> None:
        self._out: queue.Queue[Message] = queue.Queue()
        self._verdict: queue.Queue[str | None] = queue.Queue()
        self._waiting, self._stop = False, ""
        self._work = (runner, recipe, folder, cache)
        self._settings = settings
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"trial-{recipe.hash}")
        self._thread.start()

    def next(self) -> Message:
        """Let the run go on and wait for its next rung (``rung``) or its end (``record``)."""
        if self._waiting:
            self._waiting = False
            self._verdict.put(None)
        kind, body = self._out.get()
        self._waiting = kind == "rung"
        return kind, body

    def stop(self, reason: str) -> None:
        """End the run: at once if it waits at a rung, at its next rung otherwise."""
        self._stop = reason
        if self._waiting:
            self._waiting = False
            self._verdict.put(reason)
            self._thread.join(timeout=60)

    def _on_rung(self, rung: dict[str, Any]) -> str | None:
        if self._stop:
            return self._stop
        self._out.put(("rung", rung))
        return self._verdict.get()

    def _run(self) -> None:
        runner, recipe, folder, cache = self._work
        record = run_safely(runner, recipe, folder, cache, self._on_rung, **self._settings)
        self._out.put(("record", asdict(record)))


def run_safely(
    runner: Runner, recipe: Recipe, folder: Path, cache: Path, on_rung: OnRung | None = None, **settings: Any
) -> Record:
    """Run a recipe and return its record whatever happens: a crash becomes a failed record, with its traceback in the log.

    A record already on disk is returned as it is: nothing finished is repeated. A run that exhausts the memory is tried
    once more with half the tokens in flight, which changes nothing but rounding.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "record.json").exists():
        return Record.load(folder)
    log = Log(folder / "log.txt")
    log(f"{recipe} (seed {recipe.seed})")
    settings |= {"on_rung": log.heard(on_rung), "on_step": log.point}
    try:
        return log.end(runner(recipe, folder, cache, **settings))
    except Exception as error:
        if _out_of_memory(error) and (smaller := _smaller(recipe)) is not None:
            log(f"out of memory; trying once more with {smaller.schedule.micro_tokens} tokens in flight")
            return log.end(_retried(runner, recipe, smaller, folder, cache, log, settings))
        return failed(recipe, folder, error, log)


def failed(recipe: Recipe, folder: Path, error: BaseException, log: Log) -> Record:
    """Record a crash: the reason in the record, the traceback in the log."""
    log("".join(traceback.format_exception(error)))
    reason = f"{type(error).__name__}: {error}"
    record = Record(recipe.hash, recipe.seed, recipe.name, "failed", recipe.to_json(), reason=reason, trained=False)
    try:
        record.save(folder)
    except OSError as full:  # the driver keeps it, if it can
        log(f"the record could not be written: {full}")
    return record


def _retried(
    runner: Runner, recipe: Recipe, smaller: Recipe, folder: Path, cache: Path, log: Log, settings: dict[str, Any]
) -> Record:
    try:
        record = runner(smaller, folder, cache, **settings)
    except Exception as error:
        return failed(recipe, folder, error, log)
    record.recipe, record.spec = recipe.hash, recipe.to_json()  # it stands for the recipe that was asked for
    record.notes.append(f"out of memory at micro_tokens={recipe.schedule.micro_tokens}; ran at {smaller.schedule.micro_tokens}")
    record.save(folder)
    return record


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)


def _smaller(recipe: Recipe) -> Recipe | None:
    half = recipe.schedule.micro_tokens // 2
    return (
        recipe.with_(micro_tokens=half) if half >= recipe.shape.context and recipe.schedule.batch_tokens % half == 0 else None
    )


class Log:
    """Appends lines with the time to a trial's log; a full disk silences it rather than ending the run."""

    def point(self, point: dict[str, Any]) -> None:
        """Write a point of the training curve."""
        self(" ".join(f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}" for key, value in point.items()))

    def heard(self, on_rung: OnRung | None) -> OnRung | None:
        """``on_rung``, with the rung and the verdict written down."""

        def listening(rung: dict[str, Any]) -> str | None:
            self.point(rung)
            verdict = on_rung(rung) if on_rung else None
            if verdict:
                self(f"stopped: {verdict}")
            return verdict

        return listening if on_rung else None

    def end(self, record: Record) -> Record:
        """Write how it ended."""
        self(f"{record.state} {record.reason} bpb={record.bpb} bytes={record.bytes}")
        return record

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, line: str) -> None:
        try:
            with open(self._path, "a") as file:
                file.write(f"{time.strftime('%H:%M:%S')} {line.rstrip()}\n")
        except OSError:
            pass


def load_runner(dotted: str) -> Runner:
    """Import the function that runs a recipe, given as ``module:function``."""
    module, _, name = dotted.partition(":")
    return getattr(importlib.import_module(module), name)


def _verdict(folder: Path) -> str:
    """Why a run was stopped: the driver has written it down already, where it shares the folder."""
    return Record.load(folder).reason if (folder / "record.json").exists() else "stopped by the pruner"


class GolfTrial(tune.Trainable):
    """Tune's view of a worker. Its configuration: runner, recipe and calibration (JSON text), folder, cache."""

    _session: Session | None

    def setup(self, config: dict[str, Any]) -> None:
        """Note what is to be run; it starts with the first step, from which on Tune retries a trial that is lost."""
        self._next, self._session = config, None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Finish with the last recipe (the scheduler stopped it if it had not ended) and take another."""
        if self._session is not None:
            self._session.stop(_verdict(Path(self._next["folder"])))
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Return the next rung, or the record and ``done``."""
        if self._session is None:
            self._session = self._start(self._next)
        kind, body = self._session.next()
        return {kind: json.dumps(body), "done": kind == "record"}  # as text: Tune flattens dictionaries

    @staticmethod
    def _start(config: dict[str, Any]) -> Session:
        calibration = Calibration.from_json(json.loads(config["calibration"]))
        recipe = Recipe.from_json(json.loads(config["recipe"]))
        folder, cache = Path(config["folder"]), Path(config["cache"])
        return Session(load_runner(config["runner"]), recipe, folder, cache, calibration=calibration)

    def cleanup(self) -> None:
        """The worker goes away: what still runs continues from its checkpoint elsewhere, so it must leave no record here."""

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: training keeps its own checkpoints in the stage cache."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load."""
