"""What sliding windows would give, estimated at little more than the cost of chunks: for use inside a search."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.adapt import Adapter
from model.evaluate import Evaluator, Score, collect, score_of
from model.gpt import GPT
from model.recipe import Recipe
from model.tokens import Tokenizer
from model.windows import lay


@dataclass(frozen=True)
class Estimate:
    """Bits per byte under a recipe's windows, estimated from chunks and a sample of those windows.

    Attributes:
        bpb: the estimate, unbiased over the choice of windows.
        error: its standard error.
        chunked: the chunked score it builds on, per document.
        share: share of the windows that were read.
        seconds: time it took.
    """

    bpb: float
    error: float
    chunked: Score
    share: float
    seconds: float


def estimate(
    model: GPT,
    documents: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    recipe: Recipe,
    *,
    share: float | None = None,
    seed: int = 0,
    batch_tokens: int | None = None,
) -> Estimate:
    """Estimate a recipe's bits per byte by a control variate: chunks on everything, the difference on a few windows.

    Chunked and sliding losses of a token are nearly the same number, so their difference varies little and a tenth of
    the windows suffices. ``share=None`` reads as many as cost 0.4 times the chunks, and never more than a tenth.

    Raises:
        ValueError: the recipe adapts or mixes, so that a window cannot be scored without those before it.
    """
    began = time.monotonic()
    if recipe.tenant("adapt") or recipe.tenant("mixer"):
        raise ValueError(
            "estimate: windows can only be sampled where nothing is learned between them; switch adapt and mixer off."
        )
    evaluator = Evaluator(model, tokenizer, recipe, batch_tokens)
    text = evaluator.text(np.concatenate([np.asarray(d) for d in documents]))
    chunks = lay(text.inputs, text.begins, recipe.shape.context, recipe.shape.context, isolated=False)
    base, _ = collect(Adapter().walk(evaluator.reader(text), chunks), text.inputs)
    chunked = score_of(base, text, time.monotonic() - began)
    plan = evaluator.plan(text.inputs, text.begins)
    if share is None:
        share = min(0.1, 0.4 * text.inputs / (plan[:, 1] - plan[:, 0]).sum())
    count = min(len(plan), max(2, round(share * len(plan))))
    sample = plan[np.sort(np.random.default_rng(seed).choice(len(plan), count, replace=False))]
    scored = evaluator.reader(text).score(sample)
    delta = np.zeros(text.inputs)
    delta[scored.inputs] = scored.nats - base[scored.inputs]
    sums = np.array([delta[first:end].sum() for _, end, first in sample])
    scale = len(plan) / math.log(2) / text.weights.sum()
    spread = sums.std(ddof=1) * math.sqrt((1 - count / len(plan)) / count)
    return Estimate(chunked.bpb + scale * sums.mean(), scale * spread, chunked, count / len(plan), time.monotonic() - began)
