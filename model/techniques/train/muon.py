"""Muon: orthogonalised momentum for matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from golflab.model.shape import Shape
from golflab.model.training.muon_knobs import MuonKnobs
from golflab.model.training.optimizers import Muon as MuonUpdate


@dataclass(frozen=True)
class Muon(MuonKnobs):
    """Updates every matrix by its momentum with all singular values set to about one.

    buf ← μ·buf + G; U = G + μ·buf; W ← W·(1 − lr·wd) − lr·√max(1, rows/columns)·NewtonSchulz(U), with the scheduled lr. μ moves
    from ``momentum_start`` to ``momentum`` over the first ``momentum_warmup`` of the run. NewtonSchulz applies the same
    polynomial at every iteration (``fixed``), or those of Polar Express. wd is full for the first ``decay_hold`` of the run,
    then it moves linearly to ``decay_end`` times itself (#1729: 0.7 and 0.5).
    """

    sources = ("Jordan et al. 2024", "baseline", "PR #2009", "arXiv 2505.16932", "PR #1729", "PR #1787")
    doubt = "Polar Express and the taper were only published among other changes (#1787: four at once, −0.0017 bpb)."

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[list[tuple[str, nn.Parameter]]], MuonUpdate]:
        """The optimiser of the named matrices."""
        return lambda named: MuonUpdate(named, **self.update_knobs())
