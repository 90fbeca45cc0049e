"""What a running trial is doing: a small file in its folder, written by its worker, read by the live table and by status.

A file and no message to the driver, for the experiment's folder is shared by all nodes anyway, and a worker that tells its
driver nothing costs it nothing. It is written at most once a second and removed when the run ends, however it ends.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = "running.json"
EVERY = 1.0  # seconds from one writing to the next, but for a new stage
LARGEST = 10_000  # bytes of a file that is read: it lies in a folder that others may write to
STAGES = ("waiting", "preparing", "compiling", "training", "measuring", "packing", "scoring", "finishing")
NUMBERS = ("step", "steps", "loss", "tokens_per_second", "progress")


class Reporter:
    """Writes down what a run is doing; what `golflab.model.run.run` takes as ``on_stage`` and calls at every step.

    Args:
        folder: of the trial.
        clock: seconds that pass; a test passes its own.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock, self._written = folder / FILE, clock, -math.inf
        self._begin()

    def _begin(self) -> None:
        self._told: dict[str, Any] = {"stage": ""}
        self._point: tuple[int, float] = (0, 0.0)  # tokens and seconds at the last point of the curve
        self._first: tuple[int, float] | None = None  # the first step, and when it began

    def __call__(self, stage: str, how_far: dict[str, Any]) -> None:
        """Take in what is at work and how far it is; write it down if it is new, or a second has passed."""
        now = self._clock()
        first = stage == "training" and "step" in how_far and self._first is None
        if stage == self._told["stage"] and not first and now - self._written < EVERY:
            return
        if stage == "preparing":  # a run begins: the next schedule, or another attempt
            self._begin()
        self._told["stage"] = stage
        self._told.pop("progress", None)
        if stage == "training" and "step" in how_far:
            self._train(how_far, now)
        elif "progress" in how_far:
            self._told["progress"] = how_far["progress"]
        self._write(now)

    def point(self, point: dict[str, Any]) -> None:
        """Take in a point of the training curve: the loss, and tokens a second of training since the last point."""
        self._told["loss"] = point.get("loss")
        tokens, seconds = point.get("tokens", 0), point.get("seconds", 0.0)
        if seconds > self._point[1]:
            self._told["tokens_per_second"] = (tokens - self._point[0]) / (seconds - self._point[1])
        self._point = tokens, seconds

    def _train(self, how_far: dict[str, Any], now: float) -> None:
        step, steps = how_far["step"], how_far["steps"]
        self._first = self._first or (step, now)
        self._told |= {"step": step, "steps": steps}
        done = step - self._first[0]
        if not self._point[1] and done and now > self._first[1]:  # no point of the curve has told it yet
            self._told["tokens_per_second"] = done * how_far["batch_tokens"] / (now - self._first[1])
        bound = how_far["seconds"]
        by_clock = max(self._point[1], now - self._first[1]) / bound if bound else 0.0
        self._told["progress"] = min(1.0, max(step / steps if steps else 0.0, by_clock))

    def _write(self, now: float) -> None:
        """Put the file there whole. It need not survive a power cut, so it is not flushed; a full disk costs the file."""
        self._written = now
        temporary = self._path.with_name(f".{FILE}.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps({key: value for key, value in self._told.items() if value is not None}))
            os.replace(temporary, self._path)

    def close(self) -> None:
        """The run is over."""
        forget(self._path.parent)


def forget(folder: Path) -> None:
    """Remove what an earlier attempt of a trial left there."""
    with contextlib.suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)


def running_state(experiment: Path, recipe: str) -> dict[str, Any]:
    """What a running trial of an experiment is doing.

    Args:
        experiment: its folder.
        recipe: hash of the trial's recipe.

    Returns:
        ``stage`` (one of `STAGES`) and, as far as they are known, ``step``, ``steps``, ``loss``, ``tokens_per_second``, and
        ``progress`` of the stage in [0, 1]. ``waiting`` alone where no worker has begun.
    """
    waiting = {"stage": "waiting"}
    try:
        with open(experiment / "trials" / recipe / FILE, "rb", opener=_without_waiting) as file:
            told = json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return waiting
    if not isinstance(told, dict) or told.get("stage") not in STAGES:
        return waiting
    numbers = {key: float(told[key]) for key in NUMBERS if type(told.get(key)) in (int, float)}
    whole = {key: int(value) if key in ("step", "steps") else value for key, value in numbers.items() if math.isfinite(value)}
    return {"stage": told["stage"]} | whole


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe in its place holds nobody up


def stage_of(state: dict[str, Any]) -> str:
    """A state's stage, and how far it is where that is known of nothing else: ``scoring 40%``."""
    share = f" {state['progress']:.0%}" if state["stage"] == "scoring" and "progress" in state else ""
    return f"{state['stage']}{share}"


def in_words(state: dict[str, Any]) -> str:
    """A state as one phrase: ``training, step 120 of 400, loss 3.214, 12,345 tokens/s``."""
    words = [stage_of(state)]
    if state["stage"] in ("training", "measuring") and "step" in state:
        words.append(f"step {state['step']:,}" + (f" of {state['steps']:,}" if "steps" in state else ""))
        words += [f"loss {state['loss']:.3f}"] if "loss" in state else []
        words += [f"{state['tokens_per_second']:,.0f} tokens/s"] if "tokens_per_second" in state else []
    return ", ".join(words)
