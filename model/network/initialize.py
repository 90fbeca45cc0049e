"""Every tensor is drawn from the seed and its name, so that equal names in two models start with equal values.

With ordinary seeding, one more module changes all draws after it, and an ablation would compare two random seeds.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from golflab.model.network.layers import Linear, Scale, Table
from golflab.model.recipe import Recipe


def generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator that depends on the seed and the tensor's name alone."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@torch.no_grad()
def initialize(model: nn.Module, recipe: Recipe) -> nn.Module:
    """Fill every parameter of ``model`` in place and return it.

    The techniques in the slots ``init`` (matrices) and ``table_init`` (the token table) replace the default draw, except for
    matrices whose own technique fixes their start (`Weighted.fixed`). A technique in the slot ``text`` may say how rows of the
    table start from others (`Technique.start_table`).
    """
    matrix_init, table_init = recipe.build("init"), recipe.build("table_init")
    text = recipe.technique_in("text")
    for name, module in model.named_modules():
        if isinstance(module, Scale):
            module.weight.copy_(torch.tensor(module.start).expand(module.weight.shape))
        elif isinstance(module, Linear | Table):
            rng = generator(recipe.seed, name)
            value = _draw(module, rng)
            if matrix_init is not None and not module.fixed:
                value = matrix_init(module, value, generator(recipe.seed, f"{name}:init"))
            if table_init is not None and name == "table":
                value = table_init(value)
            if text is not None and name == "table":
                value = text.start_table(value)
            module.weight.copy_(value)
    return model


def _draw(module: Linear | Table, rng: torch.Generator) -> Tensor:
    """The default: uniform ±1/√columns (torch.nn.Linear's own), zeros, or a normal of the given deviation."""
    if module.start == "zeros":
        return torch.zeros(module.weight.shape)
    if module.start == "uniform":
        bound = module.weight.size(1) ** -0.5
        return torch.empty(module.weight.shape).uniform_(-bound, bound, generator=rng)
    return torch.randn(module.weight.shape, generator=rng) * float(module.start)
