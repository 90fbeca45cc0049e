"""SmearGate against a loop, with and without the document mask."""

from __future__ import annotations

import math

import pytest
import torch

from golflab.model.techniques.model.smear_gate import Smear

IDS = torch.tensor([[7, 8, 1, 9, 1]])


@pytest.mark.parametrize("mask", [False, True])
def test_it_is_the_loop(mask):
    module, x = Smear(3, 0.0, mask), torch.randn(1, 5, 3)
    theta = [0.0, -1.5, 3.0]
    with torch.no_grad():
        module.theta.weight.copy_(torch.tensor(theta))
    out = module(x, IDS)
    for t in range(5):
        for c in range(3):
            g = 1 / (1 + math.exp(-theta[c]))
            before = x[0, t - 1, c].item() if t else 0.0
            if mask and IDS[0, t] == 1:
                g = 0.0
            assert math.isclose(out[0, t, c].item(), (1 - g) * x[0, t, c].item() + g * before, abs_tol=1e-6)


def test_the_mask_keeps_documents_apart():
    module, x = Smear(3, 0.0, True), torch.randn(1, 5, 3)
    torch.nn.init.zeros_(module.theta.weight)
    other = x.clone()
    other[:, :2] += 1
    assert torch.equal(module(x, IDS)[:, 2:], module(other, IDS)[:, 2:])
