"""q gain: each head's logits times its gain, bounded by gain·√d under QK-norm."""

from __future__ import annotations

import dataclasses

import torch

from golflab.model.network.initialize import initialize
from golflab.model.techniques.model.q_gain import QGain
from tests.contract_helpers import BASE, TINY


def test_heads_are_scaled_one_by_one():
    gain = initialize(QGain(value=1.5).build(TINY, 0), BASE)
    q = torch.randn(1, 3, 4, 8)
    assert torch.allclose(gain(q), 1.5 * q)
    with torch.no_grad():
        gain.weight.weight.copy_(torch.arange(4.0))
    for h in range(4):
        assert torch.allclose(gain(q)[:, :, h], h * q[:, :, h])


def test_gains_rise_to_the_middle_of_the_stack_and_fall_again():
    shape = dataclasses.replace(TINY, layers=11)
    starts = [QGain(value=2.0, slope=0.5).build(shape, layer).weight.start for layer in range(11)]
    assert starts == [2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 4.5, 4.0, 3.5, 3.0, 2.5]
    half = QGain(value=2.0, slope=0.5).rescale(shape, dataclasses.replace(shape, layers=5))
    assert max(half.build(dataclasses.replace(TINY, layers=5), layer).weight.start for layer in range(5)) == 4.5
