"""CROWN-Q: a penalty on the variance that rounding will add."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golflab.model.network.layers import Linear, parameters_of
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob
from golflab.model.training.fake_quant import whole_run


class RoundingVariance:
    """The penalty that `CrownQ` builds."""

    def __init__(self, weight: float, form: str, threshold: float) -> None:
        self.weight, self.form, self.threshold = weight, form, threshold
        self.matrices: list[tuple[Linear, int]] = []

    def attach(self, model: nn.Module, recipe: Recipe) -> None:
        """Find the matrices the recipe stores on a grid, and their largest level."""
        grid_of = recipe.build("bits")
        for info in parameters_of(model):
            grid = grid_of(info)
            if info.kind == "linear" and grid is not None:
                owner = model.get_submodule(info.name.rpartition(".")[0])
                assert isinstance(owner, Linear)
                self.matrices.append((owner, grid.largest))

    def __call__(self, multiplier: float) -> Tensor | float:
        """The penalty at this learning-rate multiplier; zero above the threshold, or where nothing is rounded."""
        if multiplier > self.threshold or not self.matrices:
            return 0.0
        total = torch.zeros((), device=self.matrices[0][0].weight.device)
        for owner, largest in self.matrices:
            step = owner.weight.abs().amax(1, keepdim=True) / largest  # (rows,1)
            if self.form == "mean":
                total = total + (owner.weight.square() * step.detach().square()).mean()
            else:
                total = total + (owner.weight.square().mean(1, keepdim=True) * step.square()).sum()
        return total * self.weight / 12.0


@dataclass(frozen=True)
class CrownQ(Technique):
    """Adds the expected rounding error of the weights to the loss, once the learning rate has fallen to ``threshold``.

    δ_r = max|W_r|/c is row r's step, δ²/12 the variance of uniform rounding. ``rows`` (#693): λ·Σ_rows mean(w²)·δ²/12.
    ``mean`` (#849): λ/12·Σ_matrices mean(w²·δ²) with δ held constant, about a thousand times smaller: numerically nothing
    at λ = 0.01.
    """

    slot = "penalty"
    sources = ("PR #693", "PR #849")
    doubt = "It was never published alone. It acts much like extra weight decay on rows with large weights."
    reads = ("bits",)

    weight: float = knob(0.01, 0.0001, 1000.0, log=True)
    form: str = knob("rows", choices=("rows", "mean"))
    threshold: float = knob(0.5, 0.01, 1.0)

    def build(self, shape: Shape, layer: int | None = None) -> RoundingVariance:
        """The penalty: multiplier -> scalar."""
        return RoundingVariance(self.weight, self.form, self.threshold)

    def canonical(self, recipe: Recipe) -> Technique:
        """A threshold at or above the schedule's first multiplier means: from the first step on."""
        return self._with(threshold=whole_run(self.threshold, recipe))
