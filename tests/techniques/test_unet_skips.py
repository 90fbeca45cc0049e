"""U-Net skips against a stack: last in, first out (checklist 9)."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from golflab.model.techniques.model.unet_skips import UNetSkips
from tests.contract_helpers import TINY


@pytest.mark.parametrize("layers", [2, 3, 10, 11])
def test_it_is_the_stack(layers):
    skips = UNetSkips().build(dataclasses.replace(TINY, layers=layers))
    torch.nn.init.normal_(skips.weight.weight)
    outputs = [torch.randn(1, 2, 32) for _ in range(layers)]
    stack, used = [], 0
    for step in range(layers):
        x = torch.randn(1, 2, 32)
        expected = x
        if step >= layers // 2 and stack:
            expected = x + skips.weight.weight[step - layers // 2] * stack.pop()
            used += 1
        assert torch.allclose(skips(x, outputs[:step], step, layers), expected)
        if step < layers // 2:
            stack.append(outputs[step])
    assert used == layers // 2


def test_the_first_skip_doubles_the_stream():
    skips = UNetSkips().build(TINY)
    torch.nn.init.ones_(skips.weight.weight)
    x = torch.randn(1, 2, 32)
    assert torch.allclose(skips(x, [torch.zeros(1, 2, 32), x], 2, 4), 2 * x)
