"""From trained weights to the artifact: what the pack stage does."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from golflab.model.compression.artifact import pack
from golflab.model.compression.quantize import quantise, rotated
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
    """What the recipe's rounding needs to know about each matrix's inputs, if it needs anything.

    The inputs are those of the weights that are rounded, which slot `rotate` may change; the model keeps its own.
    """
    rounding: Any = recipe.technique_in("rounding")
    if not hasattr(rounding, "calibrate"):
        return None
    own = {name: p.detach().clone() for name, p in model.named_parameters()} if recipe.techniques_in("rotate") else {}
    if own:
        load_weights(model, rotated(own, parameters_of(model), recipe))
    hessians: dict[str, Tensor] = rounding.calibrate(model, text, recipe)
    if own:
        load_weights(model, own)
    return hessians
