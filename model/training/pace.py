"""Whether a cached training that was bounded by seconds can be used: a few steps show if this process is as fast."""

from __future__ import annotations

from typing import Any

from golflab.model.recipe import Recipe

SAME_PACE = 1.25  # a cached training is used if this process would do at most this many times more or fewer steps
SHARE, SECONDS = 0.05, 10.0  # how much of it is tried: this share of its steps, and at most so many seconds
FEWEST_STEPS = 6


def short_training(part: Recipe, facts: dict[str, Any]) -> Recipe | None:
    """A short training to measure the speed of this process; None where the cached training is too short for a comparison.

    Args:
        part: the recipe as a training sees it (`golflab.model.stages.training_part`).
        facts: of the cached training.
    """
    batch = part.schedule.batch_tokens
    done = facts["tokens"] // batch
    steps = min(done, max(FEWEST_STEPS, int(done * min(SHARE, SECONDS / max(facts["seconds"], 1e-9)))))
    seconds = 4 * steps * step_seconds(part, facts)  # a process that is slower than this has shown it by then
    return part.with_(tokens=steps * batch, seconds=seconds) if steps >= 2 and seconds > 0 else None


def step_seconds(part: Recipe, facts: dict[str, Any]) -> float:
    """Seconds per step of the cached training."""
    return facts["seconds"] / max(1, facts["tokens"] // part.schedule.batch_tokens)


def measured_step_seconds(curve: list[dict[str, float]]) -> float:
    """Seconds per step, from a curve without its first point, which includes one-time work; infinity if unknown."""
    if len(curve) < 2:
        return float("inf")
    first, last = curve[0], curve[-1]
    return (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])


def is_same_pace(here: float, there: float) -> bool:
    """Whether two speeds, in seconds per step, are close enough."""
    return there / SAME_PACE <= here <= there * SAME_PACE
