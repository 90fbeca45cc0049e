"""The progress of a running trial: a small file in its folder, written by its worker, read by the live table and by status.

It is a file and not a message, because all nodes share the experiment's folder anyway, and messages would cost the driver
time. It is written at most once a second and removed when the run ends.
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
EVERY = 1.0  # seconds between two writes; a new stage is written at once
LARGEST = 10_000  # bytes that are read at most, because others may write to the folder
STAGES = ("waiting", "preparing", "compiling", "training", "measuring", "packing", "scoring", "finishing")
NUMBERS = ("step", "steps", "loss", "tokens_per_second", "progress")


class Reporter:
    """Writes the progress of a run; passed to `golflab.model.run.run` as ``on_stage``, which calls it at every step.

    Args:
        folder: of the trial.
        clock: returns the time in seconds; tests pass their own.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock, self._written = folder / FILE, clock, -math.inf
        self._begin()

    def _begin(self) -> None:
        self._state: dict[str, Any] = {"stage": ""}
        self._point: tuple[int, float] = (0, 0.0)  # tokens and seconds at the last point of the training curve
        self._first: tuple[int, float] | None = None  # the first step, and when it began

    def __call__(self, stage: str, how_far: dict[str, Any]) -> None:
        """Update the stage and its progress; write them if the stage is new or a second has passed."""
        now = self._clock()
        first = stage == "training" and "step" in how_far and self._first is None
        if stage == self._state["stage"] and not first and now - self._written < EVERY:
            return
        if stage == "preparing":  # a run starts: the next schedule, or another attempt
            self._begin()
        self._state["stage"] = stage
        self._state.pop("progress", None)
        if stage == "training" and "step" in how_far:
            self._train(how_far, now)
        elif "progress" in how_far:
            self._state["progress"] = how_far["progress"]
        self._write(now)

    def point(self, point: dict[str, Any]) -> None:
        """Update the loss, and the tokens per second since the last point of the training curve."""
        self._state["loss"] = point.get("loss")
        tokens, seconds = point.get("tokens", 0), point.get("seconds", 0.0)
        if seconds > self._point[1]:
            self._state["tokens_per_second"] = (tokens - self._point[0]) / (seconds - self._point[1])
        self._point = tokens, seconds

    def _train(self, how_far: dict[str, Any], now: float) -> None:
        step, steps = how_far["step"], how_far["steps"]
        self._first = self._first or (step, now)
        self._state |= {"step": step, "steps": steps}
        done = step - self._first[0]
        if not self._point[1] and done and now > self._first[1]:  # no point of the curve is known yet
            self._state["tokens_per_second"] = done * how_far["batch_tokens"] / (now - self._first[1])
        bound = how_far["seconds"]
        by_clock = max(self._point[1], now - self._first[1]) / bound if bound else 0.0
        self._state["progress"] = min(1.0, max(step / steps if steps else 0.0, by_clock))

    def _write(self, now: float) -> None:
        """Write the file atomically. It need not survive a power cut, so it is not flushed; a full disk is ignored."""
        self._written = now
        temporary = self._path.with_name(f".{FILE}.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps({key: value for key, value in self._state.items() if value is not None}))
            os.replace(temporary, self._path)

    def close(self) -> None:
        """The run is over."""
        forget(self._path.parent)


def forget(folder: Path) -> None:
    """Remove the file of an earlier attempt of a trial."""
    with contextlib.suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)


def running_state(experiment: Path, recipe: str) -> dict[str, Any]:
    """The progress of a running trial of an experiment.

    Args:
        experiment: its folder.
        recipe: hash of the trial's recipe.

    Returns:
        ``stage`` (one of `STAGES`) and, as far as they are known, ``step``, ``steps``, ``loss``, ``tokens_per_second``, and
        ``progress`` of the stage in [0, 1]. Only ``waiting`` if no worker has started.
    """
    waiting = {"stage": "waiting"}
    try:
        with open(experiment / "trials" / recipe / FILE, "rb", opener=_without_waiting) as file:
            state = json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return waiting
    if not isinstance(state, dict) or state.get("stage") not in STAGES:
        return waiting
    numbers = {key: float(state[key]) for key in NUMBERS if type(state.get(key)) in (int, float)}
    whole = {key: int(value) if key in ("step", "steps") else value for key, value in numbers.items() if math.isfinite(value)}
    return {"stage": state["stage"]} | whole


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # or a pipe of this name would block


def stage_of(state: dict[str, Any]) -> str:
    """The stage of a state; while scoring, with its progress: ``scoring 40%``."""
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
