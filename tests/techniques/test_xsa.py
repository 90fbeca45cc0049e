"""XSA against a loop over positions and heads (checklist 6)."""

from __future__ import annotations

import math

import torch

from golflab.model.network.initialize import initialize
from golflab.model.techniques.model.xsa import XSA, exclude_own_value
from tests.contract_helpers import BASE, TINY


def test_it_is_the_loop_and_leaves_nothing_along_the_own_value():
    y, v = torch.randn(2, 5, 4, 8), torch.randn(2, 5, 2, 8)
    out = exclude_own_value(y, v)
    for b in range(2):
        for t in range(5):
            for h in range(4):
                own = v[b, t, h // 2].double()
                own = own / own.norm()
                wide = y[b, t, h].double()
                assert torch.allclose(out[b, t, h].double(), wide - (wide @ own) * own, atol=1e-5)
                assert abs(float(out[b, t, h].double() @ own)) < 1e-5


def test_a_zero_value_changes_nothing():
    y = torch.randn(1, 2, 4, 8)
    assert torch.equal(exclude_own_value(y, torch.zeros(1, 2, 2, 8)), y)


def test_only_the_last_layers_have_it():
    assert [XSA(last=3).build(TINY, layer) is not None for layer in range(4)] == [False, True, True, True]


def test_the_gated_form_removes_a_share_per_head():
    gate, y, v = initialize(XSA(last=1, gated=True).build(TINY, 3), BASE), torch.randn(2, 5, 4, 8), torch.randn(2, 5, 2, 8)
    assert torch.equal(gate(y, v), y), "it starts by removing nothing"
    alpha = [0.0, 0.5, -1.0, 3.0]
    with torch.no_grad():
        gate.weight.weight.copy_(torch.tensor(alpha))
    out = gate(y, v)
    for h in range(4):
        own = v[1, 4, h // 2].double() / v[1, 4, h // 2].double().norm()
        wide = y[1, 4, h].double()
        assert torch.allclose(out[1, 4, h].double(), wide - math.tanh(alpha[h]) * (wide @ own) * own, atol=1e-5)
