"""Parallel residual: both branches read the block's input."""

from __future__ import annotations

import torch

from golflab.model.techniques.model.parallel_residual import ParallelResidual
from tests.contract_helpers import BASE, awake, weights_of


def test_both_branches_read_the_same_input():
    model = awake(BASE.with_(ParallelResidual(last=2)))
    block, x = model.blocks[3], torch.randn(1, 6, 32)
    mixed = block.enter(x, x)
    attended, _ = block.attention_branch(mixed, None, None, 0)
    assert torch.allclose(block(x, x, None, None)[0], mixed + attended + block.mlp_branch(mixed), atol=1e-5)


def test_the_layers_below_and_the_parameters_stay():
    model, plain = awake(BASE.with_(ParallelResidual(last=2))), awake(BASE)
    assert list(weights_of(model)) == list(weights_of(plain))
    x = torch.randn(1, 6, 32)
    assert torch.equal(model.blocks[1](x, x, None, None)[0], plain.blocks[1](x, x, None, None)[0])
    assert not torch.equal(model.blocks[2](x, x, None, None)[0], plain.blocks[2](x, x, None, None)[0])
