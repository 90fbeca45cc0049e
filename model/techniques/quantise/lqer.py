"""What rounding lost of a few matrices, as a product of two thin ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from golflab.model.compression.additions import Part, Product, lines
from golflab.model.compression.grid import Grid, Quantised, stored_scales
from golflab.model.network.layers import ParameterInfo
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob

LEFT, RIGHT = Grid(1, -2), Grid(7, -8)  # two bits and four bits, with the one level below the symmetric range


@dataclass(frozen=True)
class Lqer(Technique):
    """Adds a product of low rank to the ``matrices`` that rounding changed most (LQER).

    E = W − Ŵ after rounding. Of the matrices with the largest ‖E‖, E ≈ U_r S_r V_rᵀ by its singular values, r = ``rank``.
    A = U_r S_r (rows, r) is stored with one scale max|A|/1.5 and the levels −2 … 1, B = V_rᵀ (r, columns) in runs of ``group``
    entries with a scale max/7.5 each and the levels −8 … 7. What is read is Ŵ + ÂB̂. ``select="gain"`` takes the matrices with
    the largest ‖E‖ − ‖E − ÂB̂‖ instead, which is what the correction is worth (#2014).
    """

    slot: ClassVar[str] = "correct"
    sources: ClassVar[tuple[str, ...]] = ("arXiv:2402.02446", "PR #1797", "PR #1855", "PR #2014", "PR #2060")
    doubt: ClassVar[str] = (
        "#1797 claims −0.009 bpb; its logs leave at most −0.0003. Rounding errors are close to noise, which has no low rank: a "
        "product of rank 4 takes up 1 to 2 % of their energy."
    )

    matrices: int = knob(3, 1, 32)
    rank: int = knob(4, 1, 32)
    group: int = knob(64, 8, 256)
    select: str = knob("error", choices=("error", "gain"))

    def build(self, shape: Shape, layer: int | None = None) -> Callable[..., dict[str, Quantised]]:
        """Return (weights, quantised) -> quantised, some of them with a product added."""

        def correct(weights: dict[str, Tensor], quantised: dict[str, Quantised]) -> dict[str, Quantised]:
            errors = {n: weights[n].float().cpu() - q.dequantised() for n, q in quantised.items() if q.grid is not None}
            by_error = sorted(errors, key=lambda name: -float(errors[name].norm()))
            made = {name: self._product(errors[name]) for name in by_error[: self.matrices if self.select == "error" else None]}
            if self.select == "gain":
                gains = {
                    n: float(errors[n].norm() - (errors[n] - p.added_to(torch.zeros_like(errors[n]))).norm())
                    for n, p in made.items()
                }
                made = {name: made[name] for name in sorted(gains, key=lambda name: -gains[name])[: self.matrices]}
            return {n: replace(q, added=(*q.added, made[n])) if n in made else q for n, q in quantised.items()}

        return correct

    def _product(self, error: Tensor) -> Product:
        """The stored product nearest to an error (rows, columns)."""
        u, s, vt = torch.linalg.svd(error, full_matrices=False)
        rank = min(self.rank, len(s))
        left = _part(lines((u[:, :rank] * s[:rank]).flatten(), error.shape[0] * rank), LEFT)
        right = _part(lines(vt[:rank].flatten(), min(self.group, rank * error.shape[1])), RIGHT)
        return Product(rank, left, right)

    def more_bytes(
        self, infos: list[ParameterInfo], grid_of: Callable[[ParameterInfo], Grid | None], rate: object
    ) -> dict[str, float]:
        """Expected bytes that it adds, by name: the largest matrices are taken for those that rounding changes most.

        Args:
            infos: the model's parameters.
            grid_of: the grid of each.
            rate: not asked: the entries are spread over all of their levels.
        """
        largest = sorted((i for i in infos if grid_of(i) is not None), key=lambda i: (-i.count, -i.shape[0]))[: self.matrices]
        entries = {i.name: (min(self.rank, *i.shape) * i.shape[0], min(self.rank, *i.shape) * i.shape[1]) for i in largest}
        return {name: left * 1.4 / 8 + right * (3.6 / 8 + 2 / self.group) for name, (left, right) in entries.items()}


def _part(rows: Tensor, grid: Grid) -> Part:
    """Rows with a scale each, such that the largest entry lies in the middle of the grid's last two levels."""
    scales = stored_scales(rows.abs().amax(dim=1) / (grid.largest + 0.5))
    integers = torch.round(rows / scales[:, None]).clamp_(grid.lowest, grid.largest)
    return Part(grid, integers.to(torch.int8), scales.half())
