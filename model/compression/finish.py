"""From trained weights to the artifact: what the pack stage does."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from golflab.model.compression.artifact import pack
from golflab.model.compression.quantize import quantise
from golflab.model.data.shards import Stream
from golflab.model.network.gpt import GPT
from golflab.model.network.layers import parameters_of
from golflab.model.network.weights import load_weights
from golflab.model.recipe import Recipe


def artifact(recipe: Recipe, model: GPT, weights: dict[str, Tensor], text: Stream, code_bytes: int) -> bytes:
    """Quantise and pack weights.

    Args:
        recipe: how.
        model: of the recipe, at the end of its training (`golflab.model.network.weights.empty_model`); the weights are copied
            into it.
        weights: name -> float tensor.
        text: training tokens, for a rounding that uses the inputs of each matrix.
        code_bytes: of the code that is counted with the weights; trimming leaves room for it.

    Raises:
        ValueError: a tensor is not finite or does not fit fp16, or no rounding can be found.
    """
    load_weights(model, weights)
    hessians = calibration(recipe, model, text)
    return pack(quantise(weights, parameters_of(model), recipe, hessians, code_bytes), recipe)


def calibration(recipe: Recipe, model: GPT, text: Stream) -> dict[str, Tensor] | None:
    """Hessians of the inputs of each matrix, if the recipe's rounding uses them."""
    rounding: Any = recipe.tenant("rounding")
    hessians: dict[str, Tensor] | None = rounding.calibrate(model, text, recipe) if hasattr(rounding, "calibrate") else None
    return hessians
