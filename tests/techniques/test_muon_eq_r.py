"""MuonEq-R: rows of length one before Newton–Schulz."""

from __future__ import annotations

import torch
from torch import nn

from golflab.model.techniques.train.muon import Muon
from golflab.model.techniques.train.muon_eq_r import MuonEqR, equal_rows
from tests.contract_helpers import TINY


def test_rows_get_length_one():
    u = torch.randn(2, 3, 5)
    u[0, 1] = 0.0
    out = equal_rows(u)
    for i in range(2):
        for r in range(3):
            length = u[i, r].norm()
            assert torch.allclose(out[i, r], u[i, r] / (length + 1e-7))
    assert torch.isfinite(out).all()


def test_it_is_muon_on_the_equalised_gradient(monkeypatch):
    monkeypatch.setattr("golflab.model.training.optimizers.WORKING", torch.float64)
    g, start = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(4, 6)
    a, b = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    a.grad, b.grad = g.clone(), equal_rows(g)
    MuonEqR(weight_decay=0.1).build(TINY)([("w", a)]).step(1.0, 0.5)
    Muon(weight_decay=0.1).build(TINY)([("w", b)]).step(1.0, 0.5)
    assert torch.allclose(a, b, rtol=0, atol=0.02 * 485 * 2 * 2**-23)  # float32, magnified by Newton–Schulz at most 485 times
    assert a.abs().max() > 0.015
