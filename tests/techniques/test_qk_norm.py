"""QK-norm: queries and keys of length √d, whatever their matrices say."""

from __future__ import annotations

import torch

from golflab.model.techniques.model.qk_norm import QKNorm
from tests.contract_helpers import BASE, TINY, awake


def test_every_head_has_length_root_d():
    y = QKNorm().build(TINY)(7 * torch.randn(2, 5, 4, 8))
    assert torch.allclose(y.norm(dim=-1), torch.full((2, 5, 4), 8**0.5), atol=1e-4)


def test_the_scale_of_queries_and_keys_does_not_matter():
    model, ids = awake(BASE), torch.randint(2, 50, (1, 6))
    before = model.logits(ids)
    with torch.no_grad():
        model.blocks[1].attention.query.weight.mul_(5.0)
        model.blocks[1].attention.key.weight.mul_(0.2)
    assert torch.allclose(model.logits(ids), before, atol=1e-4)
