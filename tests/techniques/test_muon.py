"""Muon's knobs reach the update whose arithmetic `test_optimize` checks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from golflab.model.techniques.train.muon import Muon
from golflab.model.techniques.train.muon_eq_r import MuonEqR
from golflab.model.techniques.train.parallel_muon import ParallelMuon
from golflab.model.training.optimizers import orthogonalize
from tests.contract_helpers import TINY


def test_knobs_reach_the_update():
    p = nn.Parameter(torch.randn(4, 6))
    muon = Muon(lr=0.1, momentum=0.9, momentum_start=0.8, momentum_warmup=0.5, weight_decay=0.2, steps=3).build(TINY)(
        [("w", p)]
    )
    assert (muon.lr, muon.weight_decay, muon.steps, muon.momentum_at(0.25)) == (0.1, 0.2, 3, 0.8500000000000001)


def test_decay_alone_shrinks_by_rate_times_decay():
    p = nn.Parameter(torch.ones(4, 6))
    muon = Muon(lr=0.1, weight_decay=0.2).build(TINY)([("w", p)])
    p.grad = torch.zeros(4, 6)
    muon.step(0.5, 0.9)
    assert torch.allclose(p, torch.full((4, 6), 1 - 0.5 * 0.1 * 0.2))


POLAR_EXPRESS = (
    (8.156554525, -22.48329293, 15.87876992),
    (4.042929935, -2.808917466, 0.500017845),
    (3.891667802, -2.772484153, 0.506064818),
    (3.285753658, -2.368129493, 0.464490242),
    (2.346541326, -1.709782838, 0.423235512),
)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
@pytest.mark.parametrize("steps", [3, 5, 7])
def test_polar_express_applies_its_polynomials_to_the_singular_values(monkeypatch, shape, steps):
    """U diag(s) Vᵀ becomes U diag(p(s)) Vᵀ, s scaled to length one; beyond five iterations the last polynomial repeats."""
    monkeypatch.setattr("golflab.model.training.optimizers.WORKING", torch.float64)
    p, g = nn.Parameter(torch.zeros(shape)), torch.randn(shape)
    u, s, vt = torch.linalg.svd(g.double(), full_matrices=False)
    s = s / (s.norm() + 1e-7)
    for step in range(steps):
        a, b, c = POLAR_EXPRESS[min(step, 4)]
        s = a * s + b * s**3 + c * s**5
    p.grad = g
    Muon(lr=0.1, momentum=0.5, momentum_start=0.5, steps=steps, polynomial="polar_express").build(TINY)([("w", p)]).step(
        1.0, 0.5
    )
    expected = -0.1 * max(1.0, shape[0] / shape[1]) ** 0.5 * u @ torch.diag(s) @ vt
    assert torch.allclose(p.double(), expected, atol=1e-5)


def test_polar_express_brings_small_singular_values_nearer_to_one(monkeypatch):
    monkeypatch.setattr("golflab.model.training.optimizers.WORKING", torch.float64)
    g = torch.randn(48, 48, dtype=torch.float64)
    gaps = [(torch.linalg.svdvals(orthogonalize(g, 5, name)) - 1).square().mean() for name in ("polar_express", "fixed")]
    assert gaps[0] < 0.5 * gaps[1]


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 1.0), (0.7, 1.0), (0.85, 0.75), (1.0, 0.5)])
@pytest.mark.parametrize("kind", [Muon, MuonEqR, ParallelMuon])
def test_the_decay_is_held_and_then_tapers_off(kind, progress, factor):
    """#1729: full until 0.7 of the run, then linear to one half."""
    p = nn.Parameter(torch.ones(4, 6))
    muon = kind(lr=0.1, weight_decay=0.2, decay_hold=0.7, decay_end=0.5).build(TINY)([("w", p)])
    p.grad = torch.zeros(4, 6)
    muon.step(1.0, progress)
    assert torch.allclose(p, torch.full((4, 6), 1 - 0.1 * 0.2 * factor))
