"""A stand-in for `golflab.model.run.run`: instant, deterministic runs with planted effects, for tests of the search."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import numpy as np

from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.spaces.scales import parameters_of

EFFECTS = {"xsa": -0.010, "smear_gate": -0.006, "bigram_hash": -0.02, "ln_scale": 0.004, "leaky_relu_squared": -0.008}
COSTS = {"bigram_hash": 120_000, "value_residual": 60_000, "gated_attention": 30_000}


def size(recipe: Recipe) -> int:
    return 500_000 + sum(COSTS.get(t.name, 1_000) for t in recipe.techniques)


class Forecaster:
    def __call__(self, recipe: Recipe) -> dict[str, float]:
        mid = size(recipe)
        return {"low": mid * 0.99, "mid": mid, "high": mid * 1.01}

    def learn(self, record: Record) -> None:
        pass

    def to_json(self) -> dict:
        return {}


def bpb(recipe: Recipe) -> float:
    noise = random.Random(recipe.hash).gauss(0, 0.0007)
    return 2.2 + sum(EFFECTS.get(t.name, 0.0) for t in recipe.techniques) + noise


def run(recipe: Recipe, folder: Path, cache: Path, on_rung=None, seconds: float = 0.0, **_) -> Record:
    """Four rungs; each start and each end is noted in ``evaluations.jsonl``, the witness of what was repeated."""
    record = Record(recipe.hash, recipe.seed, recipe.name, "complete", recipe.to_json(), bytes_forecast=Forecaster()(recipe))
    _note(cache, "start", recipe)
    for rung in range(4):
        time.sleep(seconds / 4)
        progress = (rung + 1) / 4
        here = {"step": rung + 1, "tokens": 4096 * (rung + 1), "seconds": seconds * progress, "progress": progress}
        here |= {"bpb": bpb(recipe) + 0.5 * (1 - progress), "bytes": size(recipe)}
        record.curve.append(here)
        if on_rung is not None and (reason := on_rung(here)):
            record.state, record.reason = "pruned", reason
            record.save(folder)
            return record
    record.bpb = record.bpb_float = bpb(recipe)
    record.bytes, record.seconds, record.tokens, record.parameters, record.code_bytes = size(recipe), seconds, 16384, 1, 0
    record.save(folder)
    _note(cache, "end", recipe)
    return record


def slow(recipe: Recipe, folder: Path, cache: Path, on_rung=None, **_) -> Record:
    return run(recipe, folder, cache, on_rung, seconds=0.8)


def crashing(recipe: Recipe, folder: Path, cache: Path, on_rung=None, **_) -> Record:
    """Crashes where SmearGate is on, dies where XSA is on and it is the first attempt, else runs."""
    names = {t.name for t in recipe.techniques}
    if "smear_gate" in names:
        raise RuntimeError("planted crash")
    marker = folder / "died"
    if "xsa" in names and not marker.exists():
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text("")
        os._exit(9)
    return run(recipe, folder, cache, on_rung)


def short_of_room(recipe: Recipe, folder: Path, cache: Path, on_rung=None, **_) -> Record:
    """Finds the disk full for as long as there is a file called so beside the cache."""
    if (cache.parent / "full").exists():
        raise OSError(28, os.strerror(28), str(folder))
    return run(recipe, folder, cache, on_rung)


def _note(cache: Path, what: str, recipe: Recipe) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "evaluations.jsonl", "a") as file:
        file.write(json.dumps({"what": what, "recipe": recipe.hash}) + "\n")


def swelling(recipe: Recipe, folder: Path, cache: Path, on_rung=None, **_) -> Record:
    """Turns out twice as large as forecast, at the first rung."""
    record = Record(recipe.hash, recipe.seed, recipe.name, "complete", recipe.to_json())
    here = {"step": 1, "tokens": 4096, "seconds": 0.0, "progress": 0.25, "bpb": 3.0, "bytes": 2 * size(recipe)}
    record.curve.append(here)
    if reason := on_rung(here):
        record.state, record.reason = "pruned", reason
    record.save(folder)
    return record


def sharing(recipe: Recipe, folder: Path, cache: Path, on_rung=None, **_) -> Record:
    """Trains each training once, as the stage cache does: a recipe that differs only after training finds it there."""
    from golflab.search.ledger.problem import training_key

    record = run(recipe, folder, cache, on_rung)
    trained = cache / f"{training_key(recipe)}.trained"
    record.trained, record.training = not trained.exists(), training_key(recipe)
    trained.touch()
    record.save(folder)
    return record


def finishing(recipe: Recipe, folder: Path, cache: Path, on_rung=None, ways=(), **_) -> Record:
    """Leaves what a real run leaves: documents, and one paired difference a way; a text of 20 documents."""
    record = run(recipe, folder, cache, None)
    noise = random.Random(f"{recipe.hash} ways")
    for way in ways:
        told = {"technique": way.technique, "beside": list(way.beside), "slot": "bits", "instead_of": ["int8_rows"]}
        told |= {"delta_bpb": len(way.technique) * 1e-4 + noise.gauss(0, 1e-5), "delta_bytes": -100}
        record.finishings.append(told | {"bpb": record.bpb, "bytes": record.bytes, "tokens": 100, "seconds": 0.0})
    record.training = recipe.hash
    sizes = np.full(20, 1000)
    bits = np.array([record.bpb + random.Random(f"{recipe.hash} {k}").gauss(0, 0.0005) for k in range(20)]) * sizes
    record.save(folder, bits, sizes)
    return record


def held(recipe: Recipe, folder: Path, cache: Path, on_rung=None, **_) -> Record:
    """Waits for a file called ``go`` in the cache, having said in its folder which process waits."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "waits").write_text(str(os.getpid()))
    while not (cache / "go").exists():
        time.sleep(0.05)
    return run(recipe, folder, cache, on_rung)


def sized(recipe: Recipe, folder: Path, cache: Path, on_rung=None, **_) -> Record:
    """Leaves the tokens and parameters that the recipe says, as a real run does."""
    record = run(recipe, folder, cache, None, seconds=0.001)
    record.tokens, record.parameters = recipe.schedule.tokens, parameters_of(recipe)
    record.save(folder)
    return record
