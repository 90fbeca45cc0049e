"""Clipping by the norm of all gradients together."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from golflab.model.techniques.train.clip_norm import ClipNorm
from tests.contract_helpers import TINY


@pytest.mark.parametrize(("size", "factor"), [(1.0, 0.5 / 5.0), (0.01, 1.0)])
def test_all_gradients_shrink_by_one_factor(size, factor):
    a, b, c = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    a.grad, b.grad = torch.tensor([3.0, 0.0]) * size, torch.tensor([0.0, 4.0]) * size
    norm = ClipNorm(norm=0.5).build(TINY)([a, b, c])
    assert math.isclose(norm.item(), 5.0 * size, rel_tol=1e-5)
    assert torch.allclose(a.grad, torch.tensor([3.0 * size * factor, 0.0]), rtol=1e-4)
    assert torch.allclose(b.grad, torch.tensor([0.0, 4.0 * size * factor]), rtol=1e-4)
