"""Whether a training bounded by seconds is the one that would be done here and now: a few of its steps are tried."""

from __future__ import annotations

from typing import Any

from golflab.model.recipe import Recipe

SAME_PACE = 1.25  # a training serves a run that would do at most this many times more or less
SHARE, SECONDS = 0.05, 10.0  # what is tried of it: this share, and at most what took so long
FEWEST_STEPS = 6


def to_try(part: Recipe, told: dict[str, Any]) -> Recipe | None:
    """A short training that shows the pace; None where the one that is there is too short to be compared with.

    Args:
        part: what a training sees of the recipe.
        told: facts of the training that is there.
    """
    batch = part.schedule.batch_tokens
    done = told["tokens"] // batch
    steps = min(done, max(FEWEST_STEPS, int(done * min(SHARE, SECONDS / max(told["seconds"], 1e-9)))))
    seconds = 4 * steps * step_seconds(part, told)  # a process as slow as this is known by then
    return part.with_(tokens=steps * batch, seconds=seconds) if steps >= 2 and seconds > 0 else None


def step_seconds(part: Recipe, told: dict[str, Any]) -> float:
    """Seconds a step of the training that is there took."""
    return told["seconds"] / max(1, told["tokens"] // part.schedule.batch_tokens)


def tried(curve: list[dict[str, float]]) -> float:
    """Seconds a step of a training took here, by its curve, without the first point: much is done once. Infinity if unknown."""
    if len(curve) < 2:
        return float("inf")
    first, last = curve[0], curve[-1]
    return (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])


def alike(here: float, there: float) -> bool:
    """Whether two paces lead to the same work."""
    return there / SAME_PACE <= here <= there * SAME_PACE
