"""Gated attention in both forms, by hand."""

from __future__ import annotations

import math

import torch

from golflab.model.network.initialize import initialize
from golflab.model.techniques.model.gated_attention import GatedAttention
from tests.contract_helpers import BASE, FULL, TINY


def test_the_input_gate_is_a_sigmoid_per_head():
    gate = initialize(GatedAttention(bias=4.0).build(TINY), BASE)
    y, h = torch.randn(1, 3, 4, 8), torch.randn(1, 3, 32)
    assert torch.allclose(gate(y, h), y / (1 + math.exp(-4.0)), atol=1e-6)
    torch.nn.init.normal_(gate.weight.weight)
    for head in range(4):
        g = torch.sigmoid(h[0].double() @ gate.weight.weight[head].double() + gate.bias.weight[head])
        assert torch.allclose(gate(y, h)[0, :, head].double(), y[0, :, head] * g[:, None], atol=1e-5)


def test_the_static_gate_is_a_gain_per_head():
    gate = initialize(GatedAttention(form="static").build(TINY), BASE)
    y = torch.randn(1, 3, 4, 8)
    assert torch.equal(gate(y, y), y)
    with torch.no_grad():
        gate.weight.weight.copy_(torch.arange(4.0))
    assert torch.allclose(gate(y, y)[0, 2, 3], 3 * y[0, 2, 3])


def test_sizes_are_the_published_ones():
    assert sum(p.numel() for p in GatedAttention().build(FULL).parameters()) == 4104
    assert sum(p.numel() for p in GatedAttention(form="static").build(FULL).parameters()) == 8
