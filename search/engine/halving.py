"""Successive halving over complete shorter schedules.

With a warmdown, the score of a truncated run says little about its end. So a trial first runs *complete* schedules, warmdown
included, with a fraction of the tokens. Optuna's ``SuccessiveHalvingPruner`` (Jamieson and Talwalkar, 2016; Li et al., 2020)
decides whether it is promoted to the next longer one. Records of shorter schedules lie apart from the full ones, in
``runs/NAME/shorter``, and are never ranked with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golflab.model.recipe import Recipe
from golflab.model.record import Record

SHORTER = "shorter"  # folder of their records, beside ``trials``
FEWEST_STEPS = 24  # of a shorter schedule; the longest of them may have fewer


def shorter(recipe: Recipe, factor: int) -> list[Recipe]:
    """The recipe with complete schedules of 1/factor, 1/factor², … of its tokens, shortest first.

    Raises:
        ValueError: its schedule is not bounded by tokens, or too short to be cut.
    """
    schedule = recipe.schedule
    if schedule.tokens is None or schedule.steps is None:
        raise ValueError("halving needs a schedule bounded by tokens; this one is bounded by seconds.")
    found: list[Recipe] = []
    steps = schedule.steps // factor
    while steps >= (FEWEST_STEPS if found else 1):
        part = steps / schedule.steps
        seconds = None if schedule.seconds is None else schedule.seconds * part
        found.insert(0, recipe.with_(tokens=steps * schedule.batch_tokens, seconds=seconds))
        steps //= factor
    if not found:
        raise ValueError(f"halving={factor} is larger than the {schedule.steps} steps of the schedule; use a smaller one.")
    return found


@dataclass(frozen=True)
class Halving:
    """A runner that runs the shorter schedules first, and asks after each of them whether to continue.

    Attributes:
        runner: runs one recipe, as `golflab.model.run.run` does.
        alone: runs a recipe with a runner and always returns a record:
        `golflab.search.engine.session.run_safely`.
        factor: each schedule is this many times as long as the one before it.
    """

    runner: Callable[..., Record]
    alone: Callable[..., Record]
    factor: int

    def __call__(
        self,
        recipe: Recipe,
        folder: Path,
        cache: Path,
        *,
        on_rung: Callable[[dict[str, Any]], str | None] | None = None,
        **settings: Any,
    ) -> Record:
        """Run the shorter schedules of a recipe and then itself; its record is ``pruned`` if it was not promoted."""
        curve: list[dict[str, Any]] = []
        for short in shorter(recipe, self.factor):
            # Every schedule has its own steps and batches.
            shared = {key: value for key, value in settings.items() if key not in ("on_step", "micro_tokens")}
            done = self.alone(self.runner, short, folder.parent.parent / SHORTER / short.hash, cache, **shared)
            if done.state != "complete":
                return _ended(recipe, folder, "failed", f"with {short.schedule.tokens:,} tokens: {done.reason}", curve)
            rung = rung_of(done, recipe)
            curve.append({key: rung[key] for key in ("step", "tokens", "seconds", "bpb", "bytes")})
            if reason := on_rung(rung) if on_rung else None:
                return _ended(recipe, folder, "pruned", reason, curve)
        return self.runner(recipe, folder, cache, on_rung=on_rung, **settings)


def rung_of(done: Record, recipe: Recipe) -> dict[str, Any]:
    """The final score of a shorter schedule, as a rung of the trial for the pruner."""
    short = Recipe.from_json(done.spec).schedule
    part = (short.tokens or 0) / (recipe.schedule.tokens or 1)
    point = {"step": short.steps, "tokens": short.tokens, "seconds": done.seconds, "progress": part}
    point |= {"bpb": done.bpb, "bytes": done.bytes, "complete": True}
    return point | {"trainings": part if done.trained else 0.0}


def _ended(recipe: Recipe, folder: Path, state: str, reason: str, curve: list[dict[str, Any]]) -> Record:
    record = Record(recipe.hash, recipe.seed, recipe.name, state, recipe.to_json(), reason=reason, trained=False, curve=curve)
    record.save(folder)
    return record
