"""Blueprint: every parameter a recipe's model has, without building it: no memory, no numbers."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from golflab.model.recipe import Recipe

if TYPE_CHECKING:
    from golflab.model.network.layers import ParameterInfo


def blueprint(recipe: Recipe) -> tuple[ParameterInfo, ...]:
    """Every parameter of the recipe's model, in its order; none where its techniques cannot work together.

    Techniques ask it which of their knobs can matter (`Technique.canonical`), while the recipe is being made.
    """
    built = tuple(t for t in recipe.techniques if t.stage() == "model" and t.slot not in ("init", "table_init"))
    return _blueprint(Recipe(recipe.shape, techniques=built))  # the rest adds no parameter


@functools.lru_cache(maxsize=512)
def _blueprint(recipe: Recipe) -> tuple[ParameterInfo, ...]:
    import torch

    from golflab.model.network.gpt import GPT
    from golflab.model.network.layers import parameters_of

    try:
        recipe.check()
    except ValueError:  # whoever runs the recipe will be told why
        return ()
    with torch.device("meta"):
        return tuple(parameters_of(GPT(recipe)))
