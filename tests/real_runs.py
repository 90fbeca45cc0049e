"""Real runs for the tests of survival: a tiny model, checkpoints every half second, and a witness of every training."""

from __future__ import annotations

import json
import math
import os
import random
from pathlib import Path
from typing import Any
from unittest import mock

import golflab.model.run
import golflab.model.training.loop
from golflab.model.recipe import Recipe
from golflab.model.record import Record
from tests.contract_helpers import BASE, BATCH

golflab.model.training.loop.CHECKPOINT_SECONDS = 0.5


def run(recipe: Recipe, folder: Path, cache: Path, **settings: Any) -> Record:
    """`golflab.model.run.run`, which notes its process in ``pids.txt`` and every training that ended in ``trainings.jsonl``."""
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "pids.txt", "a") as file:
        file.write(f"{os.getpid()}\n")
    record = golflab.model.run.run(recipe, folder, cache, **settings)
    if record.trained:
        with open(cache / "trainings.jsonl", "a") as file:
            file.write(json.dumps(record.recipe) + "\n")
    return record


def diverging(recipe: Recipe, folder: Path, cache: Path, **settings: Any) -> Record:
    """`run`, where the loss of every odd seed is no number from its third step on."""
    steps = iter(range(10**6))
    honest = golflab.model.training.loop._gradients

    def gradients(*arguments: Any) -> float:
        loss = honest(*arguments)
        return math.nan if recipe.seed % 2 and next(steps) >= 2 else loss

    with mock.patch.object(golflab.model.training.loop, "_gradients", gradients):
        return run(recipe, folder, cache, **settings)


def assist(recipe: Recipe, cache: Path, **settings: Any) -> None:
    """`golflab.model.run.assist`, with the checkpoints of this module."""
    golflab.model.run.assist(recipe, cache, **settings)


def corpus(folder: Path) -> str:
    """Sixty documents of a small made-up language."""
    rng, path = random.Random(0), folder / "text.jsonl"
    words = ["".join(rng.choice("abcdefghijklmnop") for _ in range(rng.randint(2, 6))) for _ in range(200)]
    texts = [" ".join(rng.choice(words) for _ in range(rng.randint(20, 60))) for _ in range(60)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def recipes(folder: Path, count: int, steps: int) -> list[Recipe]:
    """So many recipes that differ in their seeds."""
    base = BASE.with_(corpus=corpus(folder), tokens=steps * BATCH, limit=10**7)
    return [base.with_(seed=seed) for seed in range(count)]


def trainings(runs: Path) -> list[str]:
    """The recipes whose training ended, as often as it did."""
    return [json.loads(line) for line in (runs / "cache" / "trainings.jsonl").read_text().splitlines()]


def attempts(log: Path) -> list[list[int]]:
    """The steps a trial's log tells of, by attempt."""
    found: list[list[int]] = []
    for line in log.read_text().splitlines():
        if "(seed " in line:
            found.append([])
        elif " loss=" in line:
            found[-1].append(int(line.split()[1].removeprefix("step=")))
    return found
