"""Two lanes against the formula, one lane at a time."""

from __future__ import annotations

import torch

from golflab.model.network.kernels import rms_norm
from golflab.model.techniques.model.two_lanes import TwoLanes
from tests.contract_helpers import BASE, awake


def test_a_block_is_the_formula():
    block, x = awake(BASE.with_(TwoLanes(last=2))).blocks[3], torch.randn(2, 1, 6, 32)
    keep, give = block.wiring.keep.weight, block.wiring.give.weight
    x0 = torch.randn(1, 6, 32)
    a, b = block.enter(x[0], x0), block.enter(x[1], x0)
    attended, _ = block.attention_branch(a, None, None, 0)
    a, b = keep[0] * a + give[0, 0] * attended, keep[0] * b + give[0, 1] * attended
    out = block.mlp_branch(b)
    a, b = keep[1] * a + give[1, 0] * out, keep[1] * b + give[1, 1] * out
    lanes, _ = block(x, x0, None, None)
    assert torch.allclose(lanes, torch.stack([a, b]), atol=1e-4)


def test_the_final_state_is_the_mean_of_the_lanes():
    model, outputs = awake(BASE.with_(TwoLanes(last=1))), []
    model.blocks[3].register_forward_hook(lambda m, args, out: outputs.append(out[0]))
    hidden = model.hidden(torch.randint(2, 50, (1, 6)))
    assert outputs[0].shape == (2, 1, 6, 32)
    assert torch.allclose(hidden, rms_norm(outputs[0].mean(0)), atol=1e-5)
