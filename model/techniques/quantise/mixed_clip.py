"""A clip rule for every role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from golflab.model.compression.grid import stored_roles
from golflab.model.network.layers import ParameterInfo
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob
from golflab.model.techniques.quantise.mse_clip import MseClip
from golflab.model.techniques.quantise.percentile import Percentile
from golflab.model.techniques.quantise.row_max import RowMax
from golflab.model.techniques.quantise.sd_clip import SdClip

Rule = RowMax | Percentile | MseClip | SdClip
RULES: dict[str, Rule] = {
    "row_max": RowMax(),
    "percentile": Percentile(),
    "percentile_matrix": Percentile(per="matrix"),
    "mse_clip": MseClip(),
    "sd_clip": SdClip(),
    "row_max_floor": RowMax(floor=True),
    "percentile_floor": Percentile(floor=True),
    "percentile_matrix_floor": Percentile(per="matrix", floor=True),
}
FAULTS = tuple(name for name in RULES if name.endswith("_floor"))


@dataclass(frozen=True)
class MixedClip(Technique):
    """Scale every role by its own rule, as the widths of `mixed_rows` go by role.

    The rules are the other techniques of this slot with their default knobs; ``percentile_matrix`` is
    ``percentile:per=matrix``. Those that end in ``_floor`` keep the step at 1/c or above, as many entries do for some of
    their matrices and not for others. ``table``, ``bigram`` and ``value`` are the tables of tokens, bigrams and value
    embedding; ``side`` is the projections of the latter two; ``head`` an untied output matrix.
    """

    slot: ClassVar[str] = "clip"
    sources: ClassVar[tuple[str, ...]] = ("#849", "#680", "#1499")

    mlp: str = knob("mse_clip", choices=RULES, faults=FAULTS)
    attention: str = knob("mse_clip", choices=RULES, faults=FAULTS)
    table: str = knob("row_max", choices=RULES, faults=FAULTS)
    bigram: str = knob("row_max", choices=RULES, faults=FAULTS)
    value: str = knob("row_max", choices=RULES, faults=FAULTS)
    side: str = knob("row_max", choices=RULES, faults=FAULTS)
    head: str = knob("row_max", choices=RULES, faults=FAULTS)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Tensor, int, ParameterInfo], Tensor]:
        """Return (matrix (rows, columns), largest level c, info) -> scales (rows,)."""
        built = {name: rule.build(shape) for name, rule in RULES.items()}
        return lambda weight, largest, info: built[self._rule(info)](weight, largest, info)

    def reach(self, columns: int, largest: int, info: ParameterInfo) -> float:
        """Largest level times step over the deviation of a row: the forecast uses it."""
        return RULES[self._rule(info)].reach(columns, largest, info)

    def canonical(self, recipe: Recipe) -> Technique:
        """Rules of roles that the model does not store on a grid take their defaults."""
        asked = [name for name, value in self.settings().items() if value != getattr(type(self), name)]
        stored = stored_roles(recipe) if asked else None
        if stored is None:
            return self
        used = {self._knob(kind, role) for kind, role in stored}
        return self._without(*(name for name in asked if name not in used))

    def _rule(self, info: ParameterInfo) -> str:
        return str(getattr(self, self._knob(info.kind, info.role)))

    @staticmethod
    def _knob(kind: str, role: str) -> str:
        """The knob of a role; roles that are not listed use that of the attention."""
        if kind == "linear" and role in ("bigram", "value"):
            return "side"
        return role if role in ("mlp", "table", "bigram", "value", "head") else "attention"
