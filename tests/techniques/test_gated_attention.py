"""Gated attention in both forms, by hand."""

from __future__ import annotations

import math

import pytest
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


NARROW = GatedAttention(window=12, scale=0.5, gain=2.0, bias=0.25, learned_bias=False)


def test_the_records_gate_reads_a_few_channels_and_learns_no_bias():
    gate, y, h = NARROW.build(TINY), torch.randn(2, 3, 4, 8), torch.randn(2, 3, 32)
    w = torch.nn.init.normal_(gate.weight.weight)
    assert [name for name, _ in gate.named_parameters()] == ["weight.weight"]
    out = gate(y, h)
    for b, t, head in ((0, 0, 0), (1, 2, 3), (0, 1, 2)):
        logit = sum(0.5 * w[head, i].item() * h[b, t, i].item() for i in range(12)) + 0.25
        assert torch.allclose(out[b, t, head], y[b, t, head] * (2.0 / (1.0 + math.exp(-logit))), atol=1e-5)


@pytest.mark.parametrize(("gain", "start"), [(1.0, 0.5), (2.0, 1.0)])
def test_without_a_bias_it_starts_in_the_middle(gain, start):
    gate = initialize(GatedAttention(bias=0.0, learned_bias=False, window=12, gain=gain).build(FULL), BASE)
    y = torch.randn(1, 2, 8, 64)
    assert torch.allclose(gate(y, torch.randn(1, 2, 512)), start * y)
    assert sum(p.numel() for p in gate.parameters()) == 96
