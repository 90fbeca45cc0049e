"""STE QAT: training with rounded weights and straight-through gradients."""

from __future__ import annotations

from dataclasses import dataclass

from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob
from golflab.model.training.fake_quant import FakeQuant, Rule, simplest_reach, straight_through, whole_run


@dataclass(frozen=True)
class SteQat(Technique):
    """Trains with the weights the export will store, from the moment the learning rate has fallen to ``threshold``.

    The forward pass sees Q(W), on the grid and scales of the recipe's `bits` and `clip`; the gradient goes to W
    unchanged, through clipped entries too. ``threshold`` 1 is quantisation-aware training from the first step, 0.5 or
    0.15 "late QAT": with a linear warmdown the active share of it equals the threshold.

    The other knobs reproduce published trainings that rounded otherwise than their export; no space draws them.
    ``scales``: max|W_r|/c (``row_max``: #295, #680, #1499) or the 0.9995-quantile over c (``quantile``: #849), ``floor``
    keeps these at 1/c or above (#680, #849), ``extended`` adds the level −c−1 to their grid. ``where``: ``stored``, what
    the export rounds; ``large``, late key projections too (#295); ``kept``, only what the export keeps in fp16 (#680);
    ``all`` (#849, #1499). ``bits`` is the width of what the export keeps in fp16; 0 is that of its role.
    """

    slot = "fake_quant"
    sources = ("PR #295", "PR #849", "PR #1499", "arXiv 1308.3432")
    doubt = "Published: −0.011 to +0.03 bpb. In #680 it acts on two small matrices only; in some entries it never acted (#315)."
    reads = ("bits", "clip")

    threshold: float = knob(0.5, 0.01, 1.0)
    scales: str = knob("export", choices=("export", "row_max", "quantile"), faults=("row_max", "quantile"), later=True)
    floor: bool = knob(False, choices=(False, True), faults=(True,), later=True)
    extended: bool = knob(False, choices=(False, True), faults=(True,), later=True)
    where: str = knob("stored", choices=("stored", "large", "kept", "all"), faults=("large", "kept", "all"), later=True)
    bits: int = knob(0, choices=(0, 4, 5, 6, 8), faults=(4, 5, 6, 8), later=True)

    def build(self, shape: Shape, layer: int | None = None) -> FakeQuant:
        """The controller of the rounding."""
        return FakeQuant(straight_through, self.threshold, rule=self._rule())

    def _rule(self) -> Rule:
        return Rule(self.scales, self.floor, self.extended, self.where, self.bits)

    def canonical(self, recipe: Recipe) -> Technique:
        """Scales of the export have its floor and grid; a threshold above the schedule's start begins with the run."""
        begins = self._with(threshold=whole_run(self.threshold, recipe))
        own = begins if self.scales != "export" else begins._without("floor", "extended")
        return own._with(**simplest_reach(own._rule(), recipe))
