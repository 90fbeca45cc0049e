"""RoPE against complex rotations of float64 pairs."""

from __future__ import annotations

import math

import pytest
import torch

from golflab.model.techniques.model.rope import Rope
from tests.contract_helpers import FULL, TINY


def slow(x, position, dims, base):
    out = x.double().clone()
    for i in range(dims // 2):
        angle = position * base ** (-2 * i / dims)
        a, b = out[..., i].clone(), out[..., i + dims // 2].clone()
        out[..., i] = a * math.cos(angle) + b * math.sin(angle)
        out[..., i + dims // 2] = -a * math.sin(angle) + b * math.cos(angle)
    return out


@pytest.mark.parametrize("first", [0, 9])
def test_it_is_the_rotation(first):
    rotate, x = Rope(base=500.0).build(TINY), torch.randn(1, 40, 2, 8)
    y = rotate(x, first)
    for t in range(40):
        assert torch.allclose(y[0, t].double(), slow(x[0, t], first + t, 8, 500.0), atol=1e-4)


def test_products_depend_on_the_distance_alone():
    rotate, q, k = Rope().build(TINY), torch.randn(8), torch.randn(8)
    rotated = [rotate(v.expand(1, 30, 1, 8), 0)[0, :, 0] for v in (q, k)]
    products = rotated[0] @ rotated[1].T
    assert torch.allclose(products[5, 2], products[25, 22], atol=1e-4)


def test_the_ntk_base_is_the_published_one():
    """r = 16 rotated dimensions at 2048 positions where 1024 were meant: 10000·2^(16/14) ≈ 22,082 (#849)."""
    from golflab.model.techniques.model.rope import ntk_base

    assert math.isclose(ntk_base(10_000, 16, 2048, 1024), 22_082, rel_tol=1e-4)
    assert ntk_base(10_000, 16, 1024, 1024) == ntk_base(10_000, 16, 2048, 0) == 10_000
    assert Rope(ntk_from=512).build(FULL).base > Rope().build(FULL).base
