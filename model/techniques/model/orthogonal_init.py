"""Orthogonal initialisation of the matrices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.layers import Table, Weighted
from model.recipe import Shape
from model.technique import Technique, knob


@dataclass(frozen=True)
class OrthogonalInit(Technique):
    """Starts matrices with orthonormal rows or columns instead of uniform noise.

    Gain 1 for every matrix whose sides are both at least ``smallest``. Matrices that write to the stream (attention and
    MLP outputs) start at zero, as everywhere, or orthogonal·1/√(2L) with ``outputs="scaled"``; in the published code the
    zero wins, so that "muP output scaling" acts only on the side projections (``side_scale``: bigram and value embedding).
    ``tables`` includes the bigram table, as #295's size rule does by accident. A start that another technique has a knob
    for (``bigram_hash:start``) is left as that knob says; the value embedding's projection, which otherwise starts at zero,
    is drawn (#849, #680).
    """

    slot = "init"
    sources = ("PR #849", "PR #1499", "PR #295", "PR #680")
    doubt = "−0.001 to −0.004 bpb claimed, +0.003 in #444; said to hurt below 5,000 steps (#436)."

    outputs: str = knob("zero", choices=("zero", "scaled"))
    side_scale: bool = knob(False, choices=(False, True))
    tables: bool = knob(False, choices=(False, True))
    smallest: int = knob(64, 1, 512)

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Weighted, Tensor, torch.Generator], Tensor]:
        """The initial matrix: module, default draw, generator -> tensor."""
        small = (2 * shape.layers) ** -0.5

        def draw(module: Weighted, value: Tensor, rng: torch.Generator) -> Tensor:
            bigram_table = isinstance(module, Table) and module.role == "bigram"
            if min(value.shape) < self.smallest or (isinstance(module, Table) and not (bigram_table and self.tables)):
                return value
            writes_stream = module.start == "zeros" and module.role in ("attention", "mlp")
            if module.role == "head" or (writes_stream and self.outputs == "zero"):
                return value
            side = module.role in ("bigram", "value") and not bigram_table and self.side_scale
            gain = small if writes_stream or side else 1.0
            return nn.init.orthogonal_(torch.empty(value.shape), gain, generator=rng)

        return draw

    def rescale(self, old: Shape, new: Shape) -> OrthogonalInit:
        """The size below which matrices are left alone goes with the width."""
        return dataclasses.replace(self, smallest=max(1, self.smallest * new.width // old.width))
