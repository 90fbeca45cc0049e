"""A bit width for every role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from golflab.model.compression.grid import Grid, Rows, grid_by_role
from golflab.model.network.blueprint import blueprint
from golflab.model.network.layers import ParameterInfo
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob

WIDTHS = (16, 8, 7, 6, 5, 4, 3, 2)


@dataclass(frozen=True)
class MixedRows(Rows):
    """Store every role on its own number of bits, integers per output row with fp16 scales.

    w ≈ q·s with q in ±(2^(bits−1) − 1); 16 is fp16, 2 is ternary with the row's mean |w| as scale. The defaults are
    #295's: int5 MLP, int6 attention and bigram, fp16 table. ``extended`` also allows the code −2^(bits−1), as #295's
    export does; matrices of at most ``small`` elements stay fp16 (65,536 or 8,192 in the entries). The key projections
    of the last ``late_keys`` layers stay fp16 (#295: 2, #1499: 1), and are then trained without rounding too.
    """

    sources: ClassVar[tuple[str, ...]] = ("#295", "#1499", "#180", "#670")

    mlp: int = knob(5, choices=WIDTHS)
    attention: int = knob(6, choices=WIDTHS)
    table: int = knob(16, choices=WIDTHS)
    bigram: int = knob(6, choices=WIDTHS)
    value: int = knob(6, choices=WIDTHS)
    head: int = knob(8, choices=WIDTHS)
    extended: bool = knob(False, choices=(False, True))
    small: int = knob(0, 0, 65_536)
    late_keys: int = knob(0, 0, 4)

    def canonical(self, recipe: Recipe) -> Technique:
        """Widths of roles, and late key projections of layers, that the model lacks take their defaults."""
        settled = super().canonical(recipe)._with(late_keys=min(self.late_keys, recipe.shape.layers))
        asked = [role for role in ("bigram", "value", "head") if getattr(self, role) != getattr(type(self), role)]
        infos = blueprint(recipe) if asked else ()
        return settled._without(*(role for role in asked if infos and role not in {i.role for i in infos}))

    def without_exceptions(self) -> MixedRows:
        """The late key projections too are stored by their role."""
        return replace(self, small=0, late_keys=0)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[ParameterInfo], Grid | None]:
        """Return parameter -> grid."""
        bits = {role: getattr(self, role) for role in ("mlp", "attention", "table", "bigram", "value", "head")}
        bits["other"] = self.attention

        def grid(info: ParameterInfo) -> Grid | None:
            late = self.late_keys and info.layer is not None and info.layer >= shape.layers - self.late_keys
            is_key = info.role == "attention" and info.name.endswith(".key.weight")
            return None if late and is_key else grid_by_role(info, bits, self.small, self.extended)

        return grid
