"""Puts trained weights into a model in its final state, in which it is packed and scored."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from golflab.model.network.gpt import GPT
from golflab.model.recipe import Recipe


def empty_model(recipe: Recipe, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> GPT:
    """A recipe's model without weights in its final state: what switches on during training is on."""
    model = GPT(recipe, dtype).to(device)
    model.set_progress(1.0)
    return model


def load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy float weights by name into a model, on whatever device it is."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])


def scored_model(
    recipe: Recipe, weights: dict[str, Tensor], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> GPT:
    """A recipe's model with weights, ready to be scored."""
    model = empty_model(recipe, device, dtype)
    load_weights(model, weights)
    return model
