"""Depth recurrence: which blocks run in which order, in all three modes (checklist 23)."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.network.kernels import rms_norm
from golflab.model.techniques.model.depth_recurrence import DepthRecurrence
from tests.contract_helpers import BASE, TINY, awake, weights_of

TEN = dataclasses.replace(TINY, layers=10)


@pytest.mark.parametrize(
    ("mode", "times", "order", "span"),
    [
        ("tail", 2, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 3, 4, 5], 10),
        ("inline", 2, [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8, 9], 13),
        ("each", 2, [0, 1, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8, 9], 13),
        ("tail", 3, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 3, 4, 5, 3, 4, 5], 10),
    ],
)
def test_orders(mode, times, order, span):
    path = DepthRecurrence(mode=mode, times=times, begin=0.5).build(TEN)
    assert path(0.49) == (list(range(10)), 10)
    assert path(0.5) == path(1.0) == (order, span)


def orders(path, shares):
    return [path(share)[0] for share in shares]


def test_passes_are_added_one_at_a_time():
    """#1412: a second pass at 0.5, a third at 0.65."""
    knobs = {"first": 1, "final": 2, "times": 3, "mode": "inline", "begin": 0.5}
    path = DepthRecurrence(**knobs, growth="steps", full=0.65).build(TINY)
    plain, two, three = [0, 1, 2, 3], [0, 1, 2, 1, 2, 3], [0, 1, 2, 1, 2, 1, 2, 3]
    assert orders(path, (0.0, 0.49, 0.5, 0.64, 0.65, 1.0)) == [plain, plain, two, two, three, three]
    assert [path(share)[1] for share in (0.0, 0.5, 1.0)] == [4, 6, 8]
    assert path.span == 8
    four = DepthRecurrence(**(knobs | {"times": 4}), growth="steps", full=0.7).build(TINY)
    assert four.changes == pytest.approx([0.5, 0.6, 0.7])


def test_passes_in_thirds():
    """#1756: after 0.4 of the run a third of the rest with one pass, one with three and one with four."""
    path = DepthRecurrence(first=1, final=1, times=4, mode="each", begin=0.4, growth="thirds").build(TINY)
    assert [len(order) for order in orders(path, (0.0, 0.59, 0.61, 0.79, 0.81, 1.0))] == [4, 4, 6, 6, 7, 7]
    assert DepthRecurrence(begin=0.0, growth="at_once").build(TEN).changes == []


def test_growth_that_is_none_is_the_same_recipe():
    loop = DepthRecurrence(first=1, final=2, times=2, begin=0.5)
    same = (
        dataclasses.replace(loop, growth="steps"),  # one pass to add
        dataclasses.replace(loop, full=0.9),  # read by nothing
    )
    assert {BASE.with_(technique).hash for technique in same} == {BASE.with_(loop).hash}
    late = dataclasses.replace(loop, times=3, growth="steps", full=0.5)
    assert BASE.with_(late).hash == BASE.with_(dataclasses.replace(loop, times=3)).hash
    assert BASE.with_(dataclasses.replace(late, full=0.8)).hash != BASE.with_(late).hash


def test_published_halves_of_the_loop_list():
    """#1394: 4–5 looped twice more gives enc [0,1,2,3,4,5,4], dec [5,4,5,6,7,8,9,10]."""
    order, span = DepthRecurrence(first=4, final=5, times=3, mode="inline").build(dataclasses.replace(TINY, layers=11))(1.0)
    assert (order[: span // 2], order[span // 2 :]) == ([0, 1, 2, 3, 4, 5, 4], [5, 4, 5, 6, 7, 8, 9, 10])


def test_it_costs_no_parameters_in_tail_form_and_is_plain_before_it_begins():
    recipe = BASE.with_(DepthRecurrence(first=1, final=2, begin=0.5))
    looped, plain = awake(recipe, 0.0), awake(BASE)
    assert list(weights_of(looped)) == list(weights_of(plain))
    ids = torch.randint(2, 50, (1, 6))
    assert torch.equal(looped.logits(ids), plain.logits(ids))
    looped.set_progress(0.6)
    assert not torch.allclose(looped.logits(ids), plain.logits(ids), atol=1e-3)


def test_a_segment_outside_the_model_is_refused():
    with pytest.raises(ValueError, match="layers 3 to 5 must lie between 0 and 3"):
        BASE.with_(DepthRecurrence()).check()


# ------------------------------------------------------------------------------------------------ between the passes


@pytest.mark.parametrize(("mode", "again"), [("inline", (3, 5)), ("tail", (4, 6)), ("each", (2, 3, 5, 6))])
def test_injection_and_blend_are_the_loop(mode, again):
    """A forward pass in single steps: decay where the segment (1, 2) begins anew, a blend behind every later visit."""
    knobs = {"first": 1, "final": 2, "times": 3, "mode": mode}
    recipe = BASE.without("unet_skips", "softcap").with_(DepthRecurrence(**knobs, inject=True, blend=True))
    model, ids = awake(recipe), torch.randint(2, 50, (2, 6))
    path = model.path
    for parameter in path.parameters():
        torch.nn.init.normal_(parameter)
    delta, log_rate, gain = path.injection.weight.weight
    own, others = path.blend.own.weight, path.blend.others.weight
    x = x0 = rms_norm(model.table(ids, torch.float32))
    outputs, entered = [], []
    for step, layer in enumerate(model.order):
        seen = model.order[:step]
        if layer in seen and step in again:
            entered.append(step)
            size = (1 + delta.exp()).log()
            x = (-size * log_rate.exp()).exp() * x + size * gain * x0
        x, _ = model.blocks[layer](x, x0, None, None, 0)
        if layer in seen:
            mixed = own[layer - 1] * x
            for other in (1, 2):
                if other in seen:
                    last = max(k for k in range(step) if model.order[k] == other)
                    mixed = mixed + others[layer - 1, other - 1] * outputs[last]
            x = mixed
        outputs.append(x)
    assert tuple(entered) == again
    assert torch.allclose(model.hidden(ids), rms_norm(x), atol=1e-4)
    assert torch.allclose(model.hidden(ids, 4), rms_norm(x)[:, 4:], atol=1e-4)


def test_they_begin_as_if_they_were_not_there():
    loop, ids = DepthRecurrence(first=1, final=2, times=3, mode="inline"), torch.randint(2, 50, (1, 6))
    recipes = [BASE.with_(dataclasses.replace(loop, **knobs)) for knobs in ({}, {"blend": True}, {"inject": True})]
    models = [initialize(GPT(recipe), recipe) for recipe in recipes]
    plain, blended, injected = (model.logits(ids) for model in models)
    assert torch.equal(plain, blended)
    assert 0 < (plain - injected).abs().max() < 0.1
    assert [sum(p.numel() for p in m.path.parameters()) for m in models] == [0, 2 + 4, 3 * TINY.width]
