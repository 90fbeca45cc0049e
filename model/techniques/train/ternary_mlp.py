"""Ternary MLP: the MLP's matrices are trained as {−α, 0, α}."""

from __future__ import annotations

from dataclasses import dataclass

from golflab.model.network.layers import ParameterInfo
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob
from golflab.model.training.fake_quant import FakeQuant, straight_through, whole_run


@dataclass(frozen=True)
class TernaryMLP(Technique):
    """Trains both MLP matrices with three values per row and straight-through gradients, from the first step.

    α_r = mean|W_r|, t = clamp(round(W/α), −1, 1), the forward pass sees α·t and the latent W gets its gradient. The
    export must store the MLP on the ternary grid, or another model would be scored.
    """

    slot = "fake_quant"
    sources = ("PR #211", "PR #640", "arXiv 2402.17764")
    doubt = "The module of #211 was never published; its score is of another model. Averages, weight decay and XSA hurt (#640)."
    reads = ("bits", "clip")
    clashes = {
        "ema": "an average of ternary weights rounds to other ternary weights (+0.12 to +0.52 bpb in #640 and #760).",
        "swa": "a mean of ternary weights rounds to other ternary weights (+0.12 bpb and more in #640).",
    }

    threshold: float = knob(1.0, 0.01, 1.0)

    def build(self, shape: Shape, layer: int | None = None) -> FakeQuant:
        """The controller of the rounding."""
        return FakeQuant(straight_through, self.threshold, roles=("mlp",))

    def check(self, recipe: Recipe) -> str | None:
        """The export's grid must be the training's."""
        bits = recipe.technique_in("bits")
        assert bits is not None
        shape = recipe.shape
        grid = bits.build(shape)(ParameterInfo("blocks.0.mlp.up.weight", "linear", "mlp", (shape.hidden, shape.width), 0))
        if grid is None or grid.largest != 1:
            return f"the MLP is trained on three values, but {bits.name} stores it otherwise; add `mixed_rows:mlp=2`."
        return None

    def canonical(self, recipe: Recipe) -> Technique:
        """A threshold at or above the schedule's first multiplier means: from the first step on."""
        return self._with(threshold=whole_run(self.threshold, recipe))
