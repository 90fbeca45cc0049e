"""Residual mixing: the blend, and both starts (checklist 4)."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from golflab.model.network.initialize import initialize
from golflab.model.techniques.model.resid_mix import ResidMix
from tests.contract_helpers import BASE, TINY


def test_it_blends_per_channel():
    mix = ResidMix().build(TINY, 0)
    torch.nn.init.normal_(mix.weight.weight)
    x, x0 = torch.randn(1, 3, 32), torch.randn(1, 3, 32)
    m = mix.weight.weight
    assert torch.allclose(mix(x, x0)[0, 2, 5], m[0, 5] * x[0, 2, 5] + m[1, 5] * x0[0, 2, 5])


@pytest.mark.parametrize(("layer", "stream"), [(0, 0.182), (11, 0.818)])
def test_the_phase_start_of_twelve_layers(layer, stream):
    mix = initialize(ResidMix(start="phase").build(dataclasses.replace(TINY, layers=12), layer), BASE)
    assert torch.allclose(mix.weight.weight[0], torch.full((32,), stream), atol=1e-3)
    assert torch.allclose(mix.weight.weight.sum(0), torch.ones(32))


def test_the_identity_start_changes_nothing():
    mix = initialize(ResidMix().build(TINY, 2), BASE)
    x = torch.randn(1, 3, 32)
    assert torch.equal(mix(x, torch.randn(1, 3, 32)), x)
