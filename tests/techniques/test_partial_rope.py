"""Partial RoPE: the first dimensions as RoPE of that width, the others untouched."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from golflab.model.techniques.model.partial_rope import PartialRope
from golflab.model.techniques.model.rope import Rope
from tests.contract_helpers import BASE, FULL, TINY


def test_the_first_dimensions_rotate_by_themselves():
    x = torch.randn(1, 20, 4, 8)
    y = PartialRope(dims=4).build(TINY)(x, 3)
    narrow = Rope().build(dataclasses.replace(TINY, width=16))(x[..., :4], 3)
    assert torch.equal(y[..., 4:], x[..., 4:])
    assert torch.allclose(y[..., :4], narrow, atol=1e-6)


@pytest.mark.parametrize("dims", [5, 10])
def test_what_does_not_fit_the_head_is_refused(dims):
    with pytest.raises(ValueError, match="even and at most the head width, 8"):
        BASE.with_(PartialRope(dims=dims)).check()


def test_rescaling_keeps_the_share_of_the_head():
    assert PartialRope().rescale(FULL, dataclasses.replace(FULL, width=256)).dims == 8
