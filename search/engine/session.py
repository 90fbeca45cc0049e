"""Session: one run of a recipe in a thread, held at each rung until it is told to go on or to stop.

What surrounds a run is here, too: its log, a second attempt after it ran out of memory, and the record of a crash.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import json
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from golflab.model.data.corpus import load_corpus
from golflab.model.recipe import Recipe
from golflab.model.record import Record, disk_full
from golflab.model.system.files import write_atomic
from golflab.search.engine.process_group import Lost
from golflab.search.engine.running import Reporter

RETRY = "retry.json"  # in a trial's folder: settings for running it again after it ran out of memory
Runner = Callable[..., Record]
OnRung = Callable[[dict[str, Any]], str | None]
Message = tuple[str, dict[str, Any]]


class Session:
    """One run in a thread, held at each rung until it is told to go on or to stop.

    Args:
        runner: runs the recipe.
        recipe: what is run.
        folder: where its record, log and documents go.
        cache: the stage cache.
        watch: called about once a second while the run works; an exception from it ends the waiting.
        **settings: further arguments of the runner.
    """

    def __init__(
        self,
        runner: Runner,
        recipe: Recipe,
        folder: Path,
        cache: Path,
        watch: Callable[[], None] | None = None,
        **settings: Any,
    ) -> None:
        self._out: queue.Queue[Message] = queue.Queue()
        self._verdict: queue.Queue[str | None] = queue.Queue()
        self._waiting, self._stop = False, ""
        self._work, self._watch = (runner, recipe, folder, cache), watch
        self._settings = settings
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"trial-{recipe.hash}")
        self._thread.start()

    def next(self) -> Message:
        """Let the run continue and wait for its next rung (``rung``), its end (``record``) or a full disk (``halt``).

        Raises:
            Lost: it must be run again elsewhere.
        """
        if self._waiting:
            self._waiting = False
            self._verdict.put(None)
        kind, body = self._heard()
        self._waiting = kind == "rung"
        if kind == "lost":
            raise Lost(body["reason"])
        return kind, body

    def _heard(self) -> Message:
        while self._watch is not None:
            with contextlib.suppress(queue.Empty):
                return self._out.get(timeout=1.0)
            self._watch()
        return self._out.get()

    def stop(self, reason: str) -> None:
        """Stop the run: at once if it waits at a rung, otherwise at its next rung."""
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
        try:
            record = run_safely(runner, recipe, folder, cache, self._on_rung, **self._settings)
        except Lost as lost:
            self._out.put(("lost", {"reason": str(lost)}))
        except OSError as full:
            self._out.put(("halt", {"reason": disk_full(full) or str(full)}))
        else:
            give_back_memory()
            self._out.put(("record", asdict(record)))


def run_safely(
    runner: Runner,
    recipe: Recipe,
    folder: Path,
    cache: Path,
    on_rung: OnRung | None = None,
    processes: int = 1,
    **settings: Any,
) -> Record:
    """Run a recipe and return its record: a crash becomes a failed record, with its traceback in the log.

    If there is a record on disk already, it is returned. A run that runs out of memory is tried once more with half the tokens
    per micro batch, which changes only rounding errors; a file in its folder keeps this setting for resumes.

    Raises:
        Lost: a process of the run is gone, and it must be run again.
        OSError: the disk is full. The recipe is not the cause; it is run again when there is room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (record := Record.read(folder)) is not None:
        return record
    log = Log(folder / "log.txt")
    nodes = settings.get("where", {}).get("nodes", "")
    log(f"{recipe} (seed {recipe.seed})" + (f" on nodes {nodes}" if nodes else ""))
    with _reporting(folder, settings.get("on_stage")) as reporter:
        settings |= {"on_rung": log.heard(on_rung), "on_step": _both(log.point, reporter.point), "on_stage": reporter}
        return _attempts(runner, recipe, folder, cache, log, processes, settings)


def _attempts(
    runner: Runner, recipe: Recipe, folder: Path, cache: Path, log: Log, processes: int, settings: dict[str, Any]
) -> Record:
    while True:
        smaller = _in_flight(folder)
        try:
            return log.end(runner(recipe, folder, cache, **settings, **smaller))
        except Lost as lost:
            log(str(lost))
            raise
        except Exception as error:
            if isinstance(error, OSError) and disk_full(error):
                log(str(error))
                raise
            half = min(recipe.schedule.micro_tokens, recipe.schedule.batch_tokens // processes) // 2
            if smaller or half < recipe.shape.context or not _out_of_memory(error):
                return failed(recipe, folder, error, log)
            log(f"out of memory; trying once more with {half} tokens in flight")
            write_atomic(folder / RETRY, json.dumps({"micro_tokens": half}).encode())
        # Outside the handler the error is gone, and with it the tensors that its traceback kept in memory.


@contextlib.contextmanager
def _reporting(folder: Path, outer: Reporter | None) -> Iterator[Reporter]:
    """The reporter of a run's progress; a shorter schedule uses that of its trial."""
    reporter = outer or Reporter(folder)
    try:
        yield reporter
    finally:
        if outer is None:
            reporter.close()


def _both(*hearers: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def heard(point: dict[str, Any]) -> None:
        for hearer in hearers:
            hearer(point)

    return heard


def _in_flight(folder: Path) -> dict[str, int]:
    """``micro_tokens``, if an earlier attempt ran out of memory."""
    path = folder / RETRY
    return json.loads(path.read_text()) if path.exists() else {}


def failed(recipe: Recipe, folder: Path, error: BaseException, log: Log) -> Record:
    """Record a crash: the reason in the record, the traceback in the log."""
    log("".join(traceback.format_exception(error)))
    reason = f"{type(error).__name__}: {error}"
    record = Record(recipe.hash, recipe.seed, recipe.name, "failed", recipe.to_json(), reason=reason, trained=False)
    record.save(folder)
    return record


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)


class Log:
    """Appends lines with the time to a trial's log. Errors of a full disk are ignored, so that they do not end the run."""

    def point(self, point: dict[str, Any]) -> None:
        """Write a point of the training curve."""
        self(" ".join(f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}" for key, value in point.items()))

    def heard(self, on_rung: OnRung | None) -> OnRung | None:
        """``on_rung`` that also logs the rung and the verdict."""

        def listening(rung: dict[str, Any]) -> str | None:
            self.point({key: value for key, value in rung.items() if key != "documents"})
            verdict = on_rung(rung) if on_rung else None
            if verdict:
                self(f"stopped: {verdict}")
            return verdict

        return listening if on_rung else None

    def end(self, record: Record) -> Record:
        """Log how the run ended, and return its record."""
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


def give_back_memory() -> None:
    """Return the memory of a finished run to the system; otherwise the allocator keeps as much as the largest run needed.

    Objects that are alive after the first run (torch, Ray, the data) mostly stay, so the collector skips them from then on:
    this saves 0.1 s each time.
    """
    gc.collect()
    if not gc.get_freeze_count():
        gc.freeze()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def on_the_same_text(run: Callable[..., Record], fingerprints: Mapping[str, str]) -> Callable[..., Record]:
    """A runner that raises a ValueError if a corpus has changed since the experiment started.

    Args:
        run: the runner.
        fingerprints: by corpus, from the start of the experiment; the embedded corpus is not checked.
    """
    if not (known := {name: fingerprint for name, fingerprint in fingerprints.items() if name != "sotu"}):
        return run

    @functools.wraps(run)
    def checked(recipe: Recipe, folder: Path, cache: Path, **settings: Any) -> Record:
        name = recipe.data.corpus
        if name in known and (now := load_corpus(name).fingerprint) != known[name]:
            raise ValueError(
                f"corpus {name!r} has changed since the search started: its fingerprint was {known[name]} and is {now}. "
                "Restore the text; `golflab resume NAME --failed` then runs this trial again"
            )
        return run(recipe, folder, cache, **settings)

    return checked
