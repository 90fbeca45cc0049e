"""LN scale: 1/√(l+1), on both norms of a block."""

from __future__ import annotations

import math

import torch

from golflab.model.network.kernels import rms_norm
from golflab.model.techniques.model.ln_scale import LNScale
from tests.contract_helpers import BASE, awake


def test_both_norms_of_every_block_are_scaled():
    model, seen = awake(BASE.with_(LNScale())), {}
    for layer, block in enumerate(model.blocks):
        for name, module in (("attention", block.attention.value), ("mlp", block.mlp.up)):
            module.register_forward_pre_hook(lambda m, args, key=(layer, name): seen.update({key: args[0]}))
    model.logits(torch.randint(2, 50, (1, 6)))
    for (layer, _), h in seen.items():
        assert torch.allclose(h, rms_norm(h) / math.sqrt(layer + 1), atol=1e-5)
    assert len(seen) == 8
