"""q gain: each head's logits times its gain, bounded by gain·√d under QK-norm."""

from __future__ import annotations

import torch

from golflab.model.network.initialize import initialize
from golflab.model.techniques.model.q_gain import QGain
from tests.contract_helpers import BASE, TINY


def test_heads_are_scaled_one_by_one():
    gain = initialize(QGain(value=1.5).build(TINY), BASE)
    q = torch.randn(1, 3, 4, 8)
    assert torch.allclose(gain(q), 1.5 * q)
    with torch.no_grad():
        gain.weight.weight.copy_(torch.arange(4.0))
    for h in range(4):
        assert torch.allclose(gain(q)[:, :, h], h * q[:, :, h])
