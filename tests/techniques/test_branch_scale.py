"""Branch scale: a gain per channel, one for each branch of a block."""

from __future__ import annotations

import torch

from golflab.model.network.initialize import initialize
from golflab.model.techniques.model.branch_scale import BranchScale
from tests.contract_helpers import BASE, TINY, awake


def test_channels_are_scaled_from_one():
    gain = initialize(BranchScale().build(TINY, 0), BASE)
    y = torch.randn(1, 2, 32)
    assert torch.equal(gain(y), y)
    with torch.no_grad():
        gain.weight.weight.copy_(torch.arange(32.0))
    assert torch.allclose(gain(y), y * torch.arange(32.0))


def test_the_two_branches_have_their_own():
    model = awake(BASE)
    block = model.blocks[0]
    assert block.attention_scale is not block.mlp_scale
    with torch.no_grad():
        for gain in (block.attention_scale, block.mlp_scale):
            gain.weight.weight.zero_()
    x = torch.randn(1, 4, 32)
    mixed = block.enter(x, x)
    assert torch.equal(block(x, x, None, None)[0], mixed)
