"""Scales proportional to the row's standard deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golflab.model.compression.grid import stored_roles
from golflab.model.network.layers import ParameterInfo
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob

SMALLEST_FACTOR = 0.25  # of a scale, by the importance of its row


class SdScales:
    """What `SdClip` builds: scales of a matrix, once `study` has seen the model where Hessians weigh in."""

    def __init__(self, technique: SdClip) -> None:
        self.technique = technique
        self.factors: dict[str, Tensor] = {}  # by name: (rows,) or ()

    def study(self, weights: dict[str, Tensor], infos: list[ParameterInfo], hessians: dict[str, Tensor]) -> None:
        """Compare the rows and matrices of a model.

        Args:
            weights: name -> (rows, columns).
            infos: what they are.
            hessians: name -> (columns, columns) of those with calibration inputs.
        """
        if not self.technique.importance:
            return
        rows = {i.name: weights[i.name].float().abs() @ _diagonal(hessians, weights, i) for i in infos if i.name in hessians}
        for info in infos:
            if info.name in rows and self.technique.by == "row":
                self._weigh(info.name, rows[info.name] / rows[info.name].mean())
            elif info.name in rows:
                mates = [rows[i.name].mean() for i in infos if i.name in rows and i.role == info.role]
                self._weigh(info.name, rows[info.name].mean() / torch.stack(mates).mean())

    def _weigh(self, name: str, importance: Tensor) -> None:
        self.factors[name] = (1 + self.technique.importance * (importance - 1)).clamp_min(SMALLEST_FACTOR)

    def __call__(self, weight: Tensor, largest: int, info: ParameterInfo) -> Tensor:
        """Matrix (rows, columns), largest level c, info -> scales (rows,)."""
        scales = weight.std(dim=1, correction=0) * self.technique.reach(weight.shape[1], largest, info) / largest
        return scales * self.factors[info.name] if info.name in self.factors else scales


def _diagonal(hessians: dict[str, Tensor], weights: dict[str, Tensor], info: ParameterInfo) -> Tensor:
    """Mean square of every input of a matrix over their number, (columns,)."""
    return hessians[info.name].to(weights[info.name].device).diagonal().float() / info.shape[1]


@dataclass(frozen=True)
class SdClip(Technique):
    """Scale every row by its standard deviation, so that one number sets the rate of the whole model (SDClip).

    s_r = k·std(W_r)/c: the step over the deviation is k/c for every row, hence about log2(4.13·c/k) bits a weight. At the
    published 12.85 (matrices at c = 31) and 20 (table at c = 127) it never clips. #1499 also used 12.85 with c = 15, a step of
    0.86 σ that loses 6 % of the energy. ``k`` is for matrices, ``table`` for tables and heads. ``mlp`` and ``attention``
    replace ``k`` for these roles (0: they do not; #1855: 11.5 and 13).

    ``importance`` λ multiplies the scales by 1 + λ(r − 1), at least ¼. #1412 has 0.175 by row, which makes the steps of
    important rows wider; a negative λ makes them narrower. With h the diagonal of GPTQ's Hessian, a row's r is
    mean_j |W_rj|·h_j over the mean of that in its matrix (``by="row"``), or the matrix's mean over the mean of its role's
    matrices (``by="matrix"``).
    """

    slot: ClassVar[str] = "clip"
    sources: ClassVar[tuple[str, ...]] = ("#1394", "#1499", "#1412", "#1586", "#1769", "#1855")
    doubt: ClassVar[str] = (
        "MLP 10 to 12: −0.001 bpb (five of seven seeds against three, #1769). The importance of single rows correlates by 0.12 "
        "only between seeds, that of groups of matrices by 0.997 (#1412)."
    )

    k: float = knob(12.85, 2.0, 30.0, log=True)
    table: float = knob(20.0, 2.0, 40.0, log=True)
    mlp: float = knob(0.0, 0.0, 30.0, later=True)
    attention: float = knob(0.0, 0.0, 30.0, later=True)
    importance: float = knob(0.0, -0.5, 0.5, later=True)
    by: str = knob("matrix", choices=("matrix", "row"), later=True)

    def build(self, shape: Shape, layer: int | None = None) -> SdScales:
        """Return (matrix (rows, columns), largest level c, info) -> scales (rows,)."""
        return SdScales(self)

    def reach(self, columns: int, largest: int, info: ParameterInfo) -> float:
        """Largest level times step over the deviation of the row, k: what the forecast builds on."""
        if info.kind == "table" or info.role == "head":
            return self.table
        return {"mlp": self.mlp, "attention": self.attention}.get(info.role, 0.0) or self.k

    def check(self, recipe: Recipe) -> str | None:
        """What rows matter is known from a Hessian."""
        if self.importance and not hasattr(recipe.technique_in("rounding"), "calibrate"):
            return f"importance={self.importance} is measured on calibration text, which only GPTQ reads. Add `gptq`."
        return None

    def canonical(self, recipe: Recipe) -> Technique:
        """Knobs of what the model has not on a grid mean nothing, and a role's own k that is ``k`` says nothing."""
        settled = self if self.importance else self._without("by")
        settled = settled._without(*(role for role in ("mlp", "attention") if getattr(self, role) == self.k))
        asked = [name for name in ("table", "mlp", "attention") if getattr(settled, name) != getattr(type(self), name)]
        stored = stored_roles(recipe) if asked else None
        if stored is None:
            return settled
        used = {"table" if kind == "table" or role == "head" else role for kind, role in stored}
        return settled._without(*(name for name in asked if name not in used))
