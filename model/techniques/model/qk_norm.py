"""QK-norm: queries and keys are RMS-normalised per head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from golflab.model.network.kernels import rms_norm
from golflab.model.shape import Shape
from golflab.model.technique import Technique


@dataclass(frozen=True)
class QKNorm(Technique):
    """Normalises every query and key to √d before the rotation, so that attention logits are bounded.

    q, k (B,T,H,d) ← RMSNorm over d, no weight. The order is linear → norm → rotation → gain on q.
    """

    slot = "qk_norm"
    sources = ("baseline", "arXiv 2010.04245")

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[Tensor], Tensor]:
        """The norm: (B,T,H,d) -> same."""
        return rms_norm
