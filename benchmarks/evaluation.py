"""How fast scoring is, and what every way of scoring is worth on a trained proxy.

    python -m benchmarks.evaluation [--documents N] [--repeat N]    # microseconds a token and the ratios promised, as JSON
    python -m benchmarks.evaluation --effects [--tokens N]          # trains one proxy, scores it in every way: a table

Ratios are medians over alternated repetitions, so that a busy machine slows both sides; times are processor time.
Effects are scored on speeches of the test part, with errors paired by document.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from golflab.model.compression.artifact import unpack
from golflab.model.data.prepare import TokenData, prepared
from golflab.model.evaluation.score import Evaluator, Score, evaluate
from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.recipe import Recipe
from golflab.model.run import packed, run
from golflab.model.system.device import Place
from golflab.model.technique import parse
from golflab.spaces.presets import preset

WAYS = (
    "chunked",
    "chunked:isolated=true",
    "sliding_window:stride=128",
    "sliding_window:stride=64",
    "fixed_temperature",
    "adaptive_temperature",
    "hedge_mixer:chunk=8192,update=512,warm=2500",
    "sgd_ttt:chunk=8192",
    "adamw_ttt:chunk=8192",
    "lora_ttt:chunk=64",
)


EFFECTS = (
    "chunked",
    "chunked:isolated=true",
    "sliding_window:stride=128",
    "sliding_window:stride=64",
    "sliding_window:stride=64,isolated=true",
    "fixed_temperature",
    "adaptive_temperature",
    "hedge_mixer:chunk=8192,update=512,warm=2500",
    "hedge_mixer:chunk=8192,update=512,warm=2500,entropy_expert=as_published",
    "sgd_ttt:chunk=8192,freeze=1",
    "sgd_ttt:chunk=8192,freeze=1,rate=0.02",
    "adamw_ttt:chunk=8192",
    "adamw_ttt:chunk=8192,freeze=as_written",
    "lora_ttt:chunk=64",
    "sliding_window:stride=64 adamw_ttt:chunk=8192 hedge_mixer:chunk=8192,update=512,warm=2500",
)


def plain_sliding(model: GPT, tokens: np.ndarray, plan: np.ndarray, rows: int) -> np.ndarray:
    """Sliding windows as they are usually scored: batched, but all of every window through all layers and the head."""
    ids = torch.from_numpy(tokens.astype(np.int64))
    nats = np.full(len(ids) - 1, np.nan)
    groups = [plan[plan[:, 1] - plan[:, 0] == length] for length in np.unique(plan[:, 1] - plan[:, 0])]
    with torch.no_grad():
        for group in groups:
            for start in range(0, len(group), rows):
                batch = group[start : start + rows]
                at = torch.from_numpy(batch[:, :1] + np.arange(batch[0, 1] - batch[0, 0]))
                logits = model.logits(ids[at]).flatten(0, 1)
                losses = F.cross_entropy(logits, ids[at + 1].flatten(), reduction="none").view(at.shape).double().numpy()
                for row, (begin, end, first) in zip(losses, batch, strict=True):
                    nats[first:end] = row[first - begin :]
    return nats


def seconds(action: Callable[[], object]) -> float:
    """Seconds of processor time an action takes: neighbours on the machine do not count."""
    began = time.process_time()
    action()
    return time.process_time() - began


def ratio(one: Callable[[], object], other: Callable[[], object], repeat: int) -> float:
    """Median of one's time over the other's, measured in turns."""
    return statistics.median(seconds(one) / seconds(other) for _ in range(repeat))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=3, help="documents of the dev split to score")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--effects", action="store_true", help="what every way is worth, on a proxy trained for it")
    parser.add_argument("--tokens", type=int, default=2_097_152, help="its training tokens")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = preset("baseline", "proxy")
    if options.effects:
        effects(recipe.with_(tokens=options.tokens), options.documents)
        return
    with tempfile.TemporaryDirectory() as folder:
        data = prepared(recipe, Path(folder))
        print(json.dumps(measured(recipe, data, data.dev[: options.documents], options.repeat), indent=2))


def measured(recipe: Recipe, data: TokenData, documents: list[np.ndarray], repeat: int) -> dict[str, object]:
    """All times and ratios on some documents."""
    model = GPT(recipe, Place.choose("cpu").dtype)
    initialize(model, recipe)
    with torch.no_grad():  # outputs begin at zero; give every layer something to do
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    recipes = {way: recipe.with_(parse(way)).check() for way in WAYS}
    count = sum(map(len, documents)) - 1
    evaluate(model, documents[:1], data.tokenizer, recipe)  # the first call pays for what later ones find ready
    times = {way: seconds(lambda r=r: evaluate(model, documents, data.tokenizer, r)) for way, r in recipes.items()}
    cost = {way: round(1e6 * time / count, 1) for way, time in times.items()}
    sliding = recipes["sliding_window:stride=64"]
    evaluator = Evaluator(model, data.tokenizer, sliding)
    text = np.concatenate(documents)
    plan = evaluator.plan(len(text) - 1, np.flatnonzero(text == data.tokenizer.bos))
    rows = evaluator.batch_tokens // recipe.shape.context
    gap = np.abs(evaluator.score(text) - plain_sliding(model, text, plan, rows)).max()
    return {
        "dtype": str(model.dtype),
        "tokens": count,
        "microseconds_per_token": cost,
        "tokens_per_second": {way: round(1e6 / us) for way, us in cost.items()},
        "times_chunked": {way: round(us / cost["chunked"], 2) for way, us in cost.items()},
        "plain_over_trimmed_sliding": round(
            ratio(lambda: plain_sliding(model, text, plan, rows), lambda: evaluator.score(text), repeat), 3
        ),
        "largest_difference_in_nats": float(gap),
    }


def effects(recipe: Recipe, count: int) -> None:
    """Train, pack and unpack a proxy; print what every way of scoring changes, with errors paired by document."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        record = run(recipe, None, cache)
        weights = unpack(packed(recipe, cache))
        data = prepared(recipe, cache / "data")
    model = GPT(recipe, Place.choose().dtype)
    model.set_progress(1.0)
    model.load_state_dict(weights, strict=False)
    documents = data.test[:count]
    print(f"{record.tokens:,} training tokens, {record.bytes:,} bytes, {count} speeches, {sum(map(len, documents)):,} tokens\n")
    print("| evaluate stage | bits per byte | difference from chunked | µs per token |\n|---|---:|---:|---:|")
    plain = None
    for way in EFFECTS:
        began = time.process_time()
        score = evaluate(model, documents, data.tokenizer, recipe.with_(*map(parse, way.split())).check())
        micro = 1e6 * (time.process_time() - began) / score.tokens
        plain = score if plain is None else plain
        delta, error = paired(score, plain)
        change = "–" if score is plain else f"{delta:+.5f} ± {error:.5f}"
        print(f"| `{way.replace(' ', '` + `')}` | {score.bpb:.5f} | {change} | {micro:.0f} |", flush=True)


def paired(new: Score, old: Score) -> tuple[float, float]:
    """Difference in bits per byte, and its standard error over documents: a ratio's, from the residuals of bits on bytes."""
    gaps, sizes = new.bits - old.bits, old.bytes
    delta = gaps.sum() / sizes.sum()
    residuals = gaps - delta * sizes
    return float(delta), float(np.sqrt(len(gaps) / (len(gaps) - 1) * (residuals**2).sum()) / sizes.sum())


if __name__ == "__main__":
    main()
