"""Backout: the middle step's output is taken off before the final norm."""

from __future__ import annotations

import torch

from golflab.model.network.kernels import rms_norm
from golflab.model.techniques.model.backout import Backout
from tests.contract_helpers import BASE, awake


def test_the_middle_output_is_subtracted():
    with_it, plain = awake(BASE.with_(Backout())), awake(BASE)
    ids, outputs = torch.randint(2, 50, (1, 6)), []
    for block in plain.blocks:
        block.register_forward_hook(lambda m, args, out: outputs.append(out[0]))
    plain.hidden(ids)
    share = with_it.exit.weight.weight
    assert torch.allclose(with_it.hidden(ids), rms_norm(outputs[-1] - share * outputs[2]), atol=1e-4)
