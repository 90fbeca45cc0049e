"""Ternary vectors of eight out of a book of 256: one bit a weight, lossy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golflab.model.compression.grid import Grid, Quantised, with_values
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob

LENGTH = 8  # trits of a vector, K


@dataclass(frozen=True)
class TernaryCodebook(Technique):
    """Replace every eight ternary weights by the nearest of ``codes`` vectors, per matrix.

    With ``book="frequent"`` the codes are the matrix's most frequent vectors (#211); ``book="modes"`` then moves each to the
    majority of the vectors assigned to it, for ``rounds`` rounds. Nearest is by squared distance (a wrong sign counts four
    times a wrong zero) or by ``hamming`` distance. Together with the layout `codebook_bytes` a matrix takes one byte per eight
    weights. It is lossy: at 31 % zeros a fifth of the trits come back wrong, at 80 % zeros one in fifty.
    """

    slot: ClassVar[str] = "trim"
    sources: ClassVar[tuple[str, ...]] = ("#211",)
    doubt: ClassVar[str] = (
        "Where this loses little, plain entropy coding is lossless and gives a smaller file. #211 never published a score."
    )
    needs: ClassVar[dict[str, str]] = {
        "ternary_rows": "its codes are vectors of trits.",
        "codebook_bytes": "only that layout stores an index instead of eight trits.",
    }

    codes: int = knob(256, 2, 256)
    book: str = knob("frequent", choices=("frequent", "modes"))
    distance: str = knob("squared", choices=("squared", "hamming"))
    rounds: int = knob(5, 1, 50)

    def canonical(self, recipe: Recipe) -> Technique:
        """Only ``modes`` has rounds."""
        return self._without("rounds") if self.book == "frequent" else self

    def build(self, shape: Shape, layer: int | None = None) -> Callable[..., dict[str, Quantised]]:
        """Return (quantised, sizes, room) -> quantised; the sizes do not matter to it."""

        def trim(quantised: dict[str, Quantised], size: object, room: int) -> dict[str, Quantised]:
            return {name: self._coded(q) for name, q in quantised.items()}

        return trim

    def coded_bytes(self, count: int) -> float:
        """Bytes of a matrix of ``count`` trits, book included: the forecast uses it."""
        return count / LENGTH * math.log2(self.codes) / 8 + self.codes * LENGTH

    def _coded(self, q: Quantised) -> Quantised:
        if q.grid != Grid(1, -1) or q.values.shape[1] % LENGTH:
            return q
        vectors, counts = torch.unique(q.values.view(-1, LENGTH), dim=0, return_counts=True)
        order = torch.argsort(counts, descending=True, stable=True)
        vectors, counts = vectors[order].float(), counts[order].float()
        codes = vectors[: self.codes]
        for _ in range(self.rounds if self.book == "modes" else 0):
            nearest = self._nearest(vectors, codes)
            # The best trit for a group is its rounded mean: both distances are near-minimal there.
            sums = torch.zeros_like(codes).index_add_(0, nearest, vectors * counts[:, None])
            sizes = torch.zeros(len(codes)).index_add_(0, nearest, counts).clamp_min(1)
            codes = torch.round(sums / sizes[:, None])
        coded = codes[self._nearest(q.values.view(-1, LENGTH).float(), codes)]
        return with_values(q, coded.view(q.values.shape))

    def _nearest(self, vectors: Tensor, codes: Tensor) -> Tensor:
        """Index of the code nearest to each vector, the more frequent code where two are as near."""
        if self.distance == "squared":
            return (codes.square().sum(1) - 2 * vectors @ codes.T).argmin(dim=1)
        matches = sum((vectors == level).float() @ (codes == level).float().T for level in (-1.0, 0.0, 1.0))
        return torch.as_tensor(matches).argmax(dim=1)
