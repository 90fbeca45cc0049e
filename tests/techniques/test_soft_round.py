"""Soft rounding: its formula, its limits, and how it hardens."""

from __future__ import annotations

import math

import pytest
import torch

from golflab.model.techniques.train.soft_round import SoftRound, soft_round
from tests.contract_helpers import BASE, TINY, awake


@pytest.mark.parametrize("alpha", [1.0, 4.0, 16.0])
def test_it_is_the_formula(alpha):
    y = torch.linspace(-2.4, 2.4, 17, dtype=torch.float64)
    for value, got in zip(y.tolist(), soft_round(y, torch.tensor(alpha)).tolist(), strict=True):
        f = value - math.floor(value) - 0.5
        expected = math.floor(value) + 0.5 + 0.5 * math.tanh(alpha * f) / math.tanh(alpha / 2)
        assert got == pytest.approx(expected, abs=1e-6)


def test_from_nearly_the_identity_to_rounding():
    y = torch.tensor([-1.3, 0.2, 0.8, 2.45])
    assert (soft_round(y, torch.tensor(1.0)) - y).abs().max() < 0.04
    assert torch.allclose(soft_round(y, torch.tensor(200.0)), y.round(), atol=1e-3)


def test_it_hardens_as_the_multiplier_falls_and_has_a_gradient():
    model, fake = awake(BASE), SoftRound(threshold=0.5, hardest=16.0).build(TINY)
    fake.attach(model, BASE)
    weight = model.blocks[0].mlp.up.weight
    gaps = []
    for multiplier in (0.6, 0.5, 0.25, 0.0):
        fake.update(multiplier)
        gaps.append(float((model.blocks[0].mlp.up.seen(torch.float32) - weight).abs().mean().detach()))
    assert gaps[0] == 0.0
    assert gaps[1] < gaps[2] < gaps[3]
    model.blocks[0].mlp.up.seen(torch.float32).square().sum().backward()
    assert weight.grad.abs().sum() > 0
