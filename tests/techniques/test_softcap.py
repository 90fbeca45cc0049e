"""Softcap: value, bound, slope; applied once (checklist 24)."""

from __future__ import annotations

import math

import torch

from golflab.model.techniques.model.softcap import Softcap
from tests.contract_helpers import BASE, TINY, awake


def test_value_bound_and_slope():
    cap = Softcap(cap=30.0).build(TINY)
    z = torch.tensor([-500.0, -3.0, 0.0, 40.0], dtype=torch.float64, requires_grad=True)
    y = cap(z)
    assert torch.allclose(y, torch.tensor([30 * math.tanh(v / 30) for v in z.tolist()], dtype=torch.float64))
    assert (y.abs() <= 30).all()
    y.sum().backward()
    assert torch.allclose(cap.slope(y.detach()), z.grad)


def test_it_is_applied_once():
    model, ids = awake(BASE), torch.randint(2, 50, (1, 6))
    raw = model.output.apply_to(model.hidden(ids)).float()
    assert torch.allclose(model.logits(ids), 30 * torch.tanh(raw / 30), atol=1e-5)
    assert model.logits(ids).abs().max() < 30
