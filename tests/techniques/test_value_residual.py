"""Value residual in its three forms, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from golflab.model.network.initialize import initialize
from golflab.model.techniques.model.value_residual import ValueResidual
from tests.contract_helpers import BASE, TINY, awake


@pytest.mark.parametrize(("form", "own", "first"), [("pair", 0.5, 0.5), ("softmax", 0.711, 0.289), ("gate", 1.0, 0.5)])
def test_where_each_form_starts(form, own, first):
    mix = initialize(ValueResidual(form=form).build(TINY, 1), BASE)
    v, v0 = torch.randn(1, 3, 2, 8), torch.randn(1, 3, 2, 8)
    assert torch.allclose(mix(v, v0), own * v + first * v0, atol=2e-3)


def test_weights_go_to_the_right_side():
    mix = ValueResidual().build(TINY, 1)
    v, v0 = torch.ones(1, 1, 2, 8), torch.full((1, 1, 2, 8), 10.0)
    with torch.no_grad():
        mix.weight.weight.copy_(torch.tensor([0.3, 0.2]))  # λ0 of the first layer's values, λ1 of its own
    assert math.isclose(mix(v, v0)[0, 0, 0, 0].item(), 0.3 * 10 + 0.2, abs_tol=1e-5)


def test_the_first_layer_has_none_unless_asked_as_680_has():
    assert ValueResidual().build(TINY, 0) is None
    pair = initialize(ValueResidual(first_layer_pair=True).build(TINY, 0), BASE)
    v = torch.randn(1, 3, 2, 8)
    assert pair(v, 10 * v) is v


def test_v0_is_the_first_layers_and_unmixed():
    model = awake(BASE.with_(ValueResidual()))
    ids, seen = torch.randint(2, 50, (1, 4)), {}
    model.blocks[0].attention.value.register_forward_hook(lambda m, args, out: seen.update(v0=out.unflatten(-1, (2, -1))))
    for layer in (1, 3):
        mix = model.blocks[layer].attention.value_mix
        mix.register_forward_pre_hook(lambda m, args, layer=layer: seen.update({layer: args[1]}))
    model.logits(ids)
    assert torch.equal(seen[1], seen["v0"])
    assert torch.equal(seen[3], seen["v0"])
