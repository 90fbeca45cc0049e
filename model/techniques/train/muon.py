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
    from ``momentum_start`` to ``momentum`` over the first ``momentum_warmup`` of the run.
    """

    sources = ("Jordan et al. 2024", "baseline", "PR #2009")

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[list[tuple[str, nn.Parameter]]], MuonUpdate]:
        """The optimiser of the named matrices."""
        return lambda named: MuonUpdate(named, **self.update_knobs())
