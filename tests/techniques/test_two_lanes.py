"""Two lanes against the formula, one lane at a time."""

from __future__ import annotations

import dataclasses

import torch

from golflab.model.network.kernels import rms_norm
from golflab.model.techniques.model.two_lanes import TwoLanes
from tests.contract_helpers import BASE, TINY, awake, ids_and_targets


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


RECORDS = TwoLanes(last=2, form="simultaneous", skips="first", x0="first")


def test_the_simultaneous_form_is_the_formula():
    """Both outputs are formed first; only what attention reads is mixed with x0."""
    block, x, x0 = awake(BASE.with_(RECORDS)).blocks[3], torch.randn(2, 1, 6, 32), torch.randn(1, 6, 32)
    r, p = block.wiring.keep.weight, block.wiring.give.weight
    a, b = x
    attended, _ = block.attention_branch(block.enter(a, x0), None, None, 0)
    out = block.mlp_branch(b)
    expected = torch.stack([r[i] * x[i] + p[0, i] * attended + p[1, i] * out for i in range(2)])
    lanes, _ = block(x, x0, None, None)
    assert torch.allclose(lanes, expected, atol=1e-4)
    assert torch.allclose(block(x, x0, None, None, 4)[0], expected[:, :, 4:], atol=1e-4)
    assert TwoLanes(form="simultaneous").build(TINY, 3).keep.start == 1.1


def test_skips_of_the_first_lane_leave_the_second_alone():
    """The first split layer's skip goes to the first lane, too."""
    model, entered, left = awake(BASE.with_(RECORDS)), [], []
    for block in model.blocks:
        block.register_forward_hook(lambda m, args, out: entered.append(args[0]))
        block.register_forward_hook(lambda m, args, out: left.append(out[0]))
    model.hidden(torch.randint(2, 50, (1, 6)))
    w = model.skips.weight.weight
    assert [x.dim() for x in entered] == [3, 3, 4, 4]
    assert torch.allclose(entered[2][0], left[1] + w[0] * left[1], atol=1e-5)
    assert torch.equal(entered[2][1], left[1])
    assert torch.allclose(entered[3][0], left[2][0] + w[1] * left[0], atol=1e-5)
    assert torch.equal(entered[3][1], left[2][1])


def test_spare_scalars_are_kept_and_not_read():
    recipe, (ids, _) = BASE.with_(RECORDS), ids_and_targets()
    spare = BASE.with_(dataclasses.replace(RECORDS, spare=True))
    model, other = awake(recipe), awake(spare)
    assert sum(p.numel() for p in other.parameters()) - sum(p.numel() for p in model.parameters()) == 2 * 6
    assert torch.equal(model.logits(ids), other.logits(ids))
