"""LeakyReLU² value and derivative, and the hidden gain."""

from __future__ import annotations

import pytest
import torch

from golflab.model.techniques.model.leaky_relu_squared import LeakyReluSquared
from tests.contract_helpers import TINY


@pytest.mark.parametrize("slope", [0.0, 0.5, 0.9, 1.0])
def test_value_and_derivative(slope):
    u = torch.tensor([-3.0, -0.5, 0.25, 2.0], requires_grad=True)
    y = LeakyReluSquared(slope=slope).build(TINY)(u)
    y.sum().backward()
    for value, out, gradient in zip(u.tolist(), y.tolist(), u.grad.tolist(), strict=True):
        assert out == pytest.approx(value**2 if value > 0 else (slope * value) ** 2)
        assert gradient == pytest.approx(2 * value if value > 0 else 2 * slope**2 * value)


def test_the_hidden_gain_multiplies_after_squaring():
    module = LeakyReluSquared(hidden_gain=True).build(TINY)
    u = torch.randn(1, 2, TINY.hidden)
    torch.nn.init.constant_(module.gain.weight, -2.0)
    assert torch.allclose(module(u), -2.0 * LeakyReluSquared().build(TINY)(u))
