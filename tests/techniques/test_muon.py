"""Muon's knobs reach the update whose arithmetic `test_optimize` checks."""

from __future__ import annotations

import torch
from torch import nn

from golflab.model.techniques.train.muon import Muon
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
