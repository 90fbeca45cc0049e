"""Blueprint: every parameter that a recipe's model has, without the memory for it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from golflab.model.recipe import Recipe

if TYPE_CHECKING:
    from golflab.model.network.layers import ParameterInfo


def blueprint(recipe: Recipe) -> tuple[ParameterInfo, ...]:
    """Every parameter of the recipe's model, in its order; none where its techniques cannot work together.

    Techniques use it in `Technique.canonical`, to find which of their knobs have an effect, while the recipe is made.
    """
    built = tuple(t for t in recipe.techniques if t.stage() == "model" and t.slot not in ("init", "table_init"))
    return _blueprint(Recipe(recipe.shape, techniques=built))  # other techniques add no parameter


@functools.lru_cache(maxsize=512)
def _blueprint(recipe: Recipe) -> tuple[ParameterInfo, ...]:
    import torch

    from golflab.model.network.gpt import GPT
    from golflab.model.network.layers import parameters_of

    try:
        recipe.check()
    except ValueError:  # running the recipe will report why
        return ()
    with torch.device("meta"):
        return tuple(parameters_of(GPT(recipe)))
