"""What is measured at a rung: the weights are quantised and packed for their size, and score some held-out text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from golflab.model.compression.artifact import pack
from golflab.model.compression.quantize import quantise
from golflab.model.data.tokenizer import Tokenizer
from golflab.model.evaluation.score import evaluate
from golflab.model.network.gpt import GPT
from golflab.model.network.layers import parameters_of
from golflab.model.recipe import Recipe
from golflab.model.training.result import TrainingFailed

RUNG_TOKENS = 16_384  # text scored at a rung
RUNG_STRETCH = 1_024  # tokens of one document there, so that a few long documents still give enough pairs to compare


def measure(
    recipe: Recipe,
    model: GPT,
    documents: Iterable[np.ndarray],
    tokenizer: Tokenizer,
    code_bytes: int,
    counts: Iterable[np.ndarray] | None = None,
) -> tuple[dict[str, Any], list[float]]:
    """Measure a model in training; the model is not changed.

    Rounding and scoring are plain: Hessians and adapters take longer than many training steps and change the size little.

    Args:
        recipe: whose quantise and pack stages are used.
        model: as it is now.
        documents: held-out text; its beginning is scored.
        tokenizer: what made them.
        code_bytes: of the code that travels with the weights.
        counts: bytes that each document's tokens stand for; None asks the tokenizer.

    Returns:
        ``bpb`` and ``bytes`` (code included); and the bits per byte of every stretch of text.

    Raises:
        TrainingFailed: the weights are not finite, or what they predict is not.
    """
    plain = dataclasses.replace(
        recipe, techniques=tuple(t for t in recipe.techniques if t.slot != "rounding" and t.stage() != "evaluate")
    )
    weights = {name: p.detach() for name, p in model.named_parameters()}
    try:
        blob = pack(quantise(weights, parameters_of(model), plain, code_bytes=code_bytes), plain)
    except ValueError as error:
        raise TrainingFailed(f"in mid-training: {error}") from error
    sizes = None if counts is None else stretches(counts)
    score = evaluate(model, stretches(documents), tokenizer, plain, counts=sizes)
    if not math.isfinite(score.bpb):
        raise TrainingFailed(f"in mid-training the model scored {score.bpb} bits per byte")
    shares = score.bits / np.maximum(score.bytes, 1)
    return {"bpb": score.bpb, "bytes": len(blob) + code_bytes}, [round(float(share), 6) for share in shares]


def stretches(documents: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The first `RUNG_TOKENS` of a split, cut into short documents that each begin with BOS; or what is told of its tokens."""
    found, left = [], RUNG_TOKENS
    for document in documents:
        for start in range(0, len(document) - 1, RUNG_STRETCH):
            found.append(np.concatenate([document[:1], document[start + 1 : start + 1 + min(RUNG_STRETCH, left)]]))
            left -= len(found[-1]) - 1
            if left <= 0:
                return found
    return found
