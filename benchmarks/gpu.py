"""Does every technique run on this machine's GPU, and how fast is a training there? Needs one CUDA device.

    python -m benchmarks.gpu --techniques --processes 8   # every technique, on the GPU and on the CPU
    python -m benchmarks.gpu --pace baseline record_2014  # tokens/s by preset and scale, eager and compiled; memory
    python -m benchmarks.gpu --together 1 4 8             # tokens/s of several trainings that share the GPU

Of the product only `golflab.model` and `golflab.spaces` are used; Ray and Optuna need not be there.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.model.run import run
from golflab.model.system.device import Place
from golflab.model.technique import catalogue, find
from golflab.model.training import optimizers
from golflab.model.training.loop import train
from golflab.spaces.presets import preset
from tests.contract_helpers import WORDS, default, recipe_with

STEPS = 30  # of a training whose pace is measured, behind five that warm up
PLACES = {
    "CPU": ("cpu", torch.float32),
    "GPU, float32": ("cuda", torch.float32),
    "GPU, bfloat16": ("cuda", torch.bfloat16),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--techniques", action="store_true")
    parser.add_argument("--pace", nargs="*", metavar="PRESET")
    parser.add_argument("--scales", nargs="+", default=["nano", "micro", "proxy", "small"])
    parser.add_argument("--together", nargs="*", type=int, metavar="COUNT")
    parser.add_argument("--processes", type=int, default=4)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("There is no CUDA device here. Run this where torch.cuda.is_available() is true.")
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}", flush=True)
    if given.pace is not None:
        paces(given.pace or ["baseline"], given.scales)
    if given.together is not None:
        together(given.scales, given.together or [1, 4])
    if given.techniques:
        techniques(given.processes)


# ------------------------------------------------------------------------------------------------ pace


class RandomBatches:
    """Random tokens, drawn once, as every step's batch: what is measured is the training."""

    def __init__(self, recipe: Recipe) -> None:
        shape, rows = recipe.shape, recipe.schedule.batch_tokens // recipe.shape.context
        ids = torch.randint(2, shape.vocabulary, (rows, shape.context + 1), generator=torch.Generator().manual_seed(0))
        ids[:, 0] = 1  # BOS
        self.pair = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[Tensor, Tensor]:
        return self.pair


@dataclass(frozen=True)
class Pace:
    """Of one training: tokens per second, and the most memory that PyTorch took on the GPU, bytes."""

    tokens_per_second: float
    memory: int


def pace(recipe: Recipe, compiled: bool, steps: int = STEPS) -> Pace:
    """Train the recipe for some steps on the GPU, after five steps that warm up."""
    place, batch = Place.choose("cuda"), recipe.schedule.batch_tokens
    torch.cuda.reset_peak_memory_stats()
    for count in (5, steps):
        short = recipe.with_(tokens=count * batch, seconds=None)
        done = train(short, RandomBatches(short), device=place.device, dtype=place.dtype, compiled=compiled)
    return Pace(done.tokens / done.seconds, torch.cuda.max_memory_allocated())


def paces(names: list[str], scales: list[str]) -> None:
    print(
        "| preset | scale | batch, tokens | eager, tokens/s | compiled, tokens/s | memory, MB |\n|---|---|---:|---:|---:|---:|"
    )
    for name in names:
        for scale in scales:
            recipe = preset(name, scale)
            eager, compiled = (_told(pace, recipe, on) for on in (False, True))
            numbers = [f"{p.tokens_per_second:,.0f}" if isinstance(p, Pace) else p for p in (eager, compiled)]
            memory = f"{eager.memory / 1e6:,.0f}" if isinstance(eager, Pace) else "–"
            print(f"| {name} | {scale} | {recipe.schedule.batch_tokens:,} | {' | '.join(numbers)} | {memory} |", flush=True)


def together(scales: list[str], counts: list[int]) -> None:
    """Eager trainings of the baseline side by side, each in a process of its own."""
    print("| scale | trainings at once | tokens/s, all together |\n|---|---:|---:|")
    for scale in scales:
        recipe = preset("baseline", scale)
        for count in counts:
            with multiprocessing.get_context("spawn").Pool(count) as pool:
                pool.map(_warm, [recipe] * count, chunksize=1)
                found = pool.map(_one_of_many, [recipe] * count, chunksize=1)
            print(f"| {scale} | {count} | {sum(found):,.0f} |", flush=True)


def _warm(recipe: Recipe) -> None:
    torch.set_num_threads(1)
    pace(recipe, False, 2)
    time.sleep(1)  # so that every process of the pool takes one


def _one_of_many(recipe: Recipe) -> float:
    return pace(recipe, False, 200).tokens_per_second


def _told(work: object, *arguments: object) -> object:
    """What ``work`` returns, or the first line of its error: one that fails does not end the table."""
    try:
        return work(*arguments)  # type: ignore[operator]
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"


# ------------------------------------------------------------------------------------------------ techniques


def techniques(processes: int) -> None:
    """Every technique through the whole of a run: trained, quantised, packed, unpacked and scored, three times."""
    print("| technique | slot | CPU, bpb | float weights: GPU − CPU, float32 | artifact: the same | bfloat16 | GPU, s |")
    print("|---|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        corpus = _corpus(Path(folder))
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            rows = pool.imap(functools.partial(row, corpus=corpus, cache=folder), list(catalogue()))
            failed = 0
            for line in rows:
                failed += "Error" in line
                print(line, flush=True)
    print(f"{len(catalogue())} techniques, {failed} failed")


def row(name: str, corpus: str, cache: str) -> str:
    """One technique's line."""
    torch.set_num_threads(1)
    recipe = recipe_with(default(name)).with_(corpus=corpus, limit=10**6)
    found, seconds = {}, 0.0
    for label, (device, dtype) in PLACES.items():
        started = time.perf_counter()
        found[label] = _told(one, recipe, Path(cache) / f"{name} {label}", device, dtype)
        seconds = time.perf_counter() - started
    head = f"| {name} | {find(name).slot}"
    wrong = [f"{label}: {r}" for label, r in found.items() if not isinstance(r, Record)]
    wrong += [
        f"{label}: {r.state} Error {r.reason}" for label, r in found.items() if isinstance(r, Record) and r.state != "complete"
    ]
    if wrong:
        return f"{head} | {'; '.join(wrong)} |"
    cpu, same, half = found.values()
    float_gap = "–" if cpu.bpb_float is None else f"{same.bpb_float - cpu.bpb_float:+.1e}"
    return f"{head} | {cpu.bpb:.4f} | {float_gap} | {same.bpb - cpu.bpb:+.1e} | {half.bpb - cpu.bpb:+.4f} | {seconds:.1f} |"


def one(recipe: Recipe, cache: Path, device: str, dtype: torch.dtype) -> Record:
    """A run on a device with a type of activations; with float32, Newton–Schulz computes in it, too."""
    working = torch.float32 if dtype == torch.float32 else None
    with (
        mock.patch.object(Place, "choose", return_value=Place(torch.device(device), dtype)),
        mock.patch.object(optimizers, "WORKING", working),
    ):
        return run(recipe, None, cache, device=device, compiled=False, rungs=False)


def _corpus(folder: Path) -> str:
    """Short documents of a few words, as many as a tiny training and its held-out parts need."""
    path = folder / "words.txt"
    path.write_text("\n\n".join(_documents()), encoding="utf-8")
    return str(path)


def _documents() -> Iterator[str]:
    draw = random.Random(7)
    words = [w.strip() for w in WORDS.split(" ") if w.strip()]
    for number in range(600):
        yield f"{number} " + " ".join(draw.choices(words, k=30)) + "."


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
