"""Straight-through quantisation-aware training: the export's grid forward, the identity backward (checklist 14)."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from golflab.model.compression.quantize import quantise
from golflab.model.network.layers import ParameterInfo, parameters_of
from golflab.model.technique import parse
from golflab.model.techniques.train.ste_qat import SteQat
from tests.contract_helpers import BASE, TINY, awake, ids_and_targets, weights_of


def attached(recipe, multiplier):
    model, fake = awake(recipe), SteQat(threshold=0.5).build(TINY)
    fake.attach(model, recipe)
    fake.update(multiplier)
    return model


@pytest.mark.parametrize("bits", ["int5_rows", "int6_rows", "mixed_rows", "ternary_rows"])
@pytest.mark.parametrize("clip", ["row_max", "sd_clip", "mse_clip"])
def test_the_training_grid_is_the_export_grid(bits, clip):
    recipe = BASE.with_(parse(bits), parse(clip), limit=10**7)
    model = attached(recipe, 0.3)
    stored = quantise(weights_of(model), parameters_of(model), recipe, code_bytes=0)
    for name, q in stored.items():
        if q.info.kind == "linear" and q.grid is not None:
            owner = model.get_submodule(name.rpartition(".")[0])
            assert torch.allclose(owner.seen(torch.float32), q.dequantised(), atol=1e-6), name


def test_it_begins_at_the_threshold_and_changes_the_loss():
    ids, targets = ids_and_targets()
    plain, early, late = awake(BASE), attached(BASE, 0.51), attached(BASE, 0.5)
    assert torch.equal(early(ids, targets), plain(ids, targets))
    assert late(ids, targets) != plain(ids, targets)


def test_the_gradient_is_that_of_the_rounded_weight():
    ids, targets = ids_and_targets()
    model = attached(BASE, 0.1)
    model(ids, targets).backward()
    rounded = awake(BASE)
    with torch.no_grad():
        for (_, a), (_, b) in zip(rounded.named_modules(), model.named_modules(), strict=True):
            if getattr(b, "fake", None) is not None:
                a.weight.copy_(b.seen(torch.float32))
    rounded(ids, targets).backward()
    for (name, a), b in zip(rounded.named_parameters(), model.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5), name


def test_rounding_twice_changes_nothing_more():
    recipe = BASE.with_(parse("int6_rows"))
    owner = attached(recipe, 0.1).blocks[0].mlp.up
    once = owner.seen(torch.float32).detach()
    with torch.no_grad():
        owner.weight.copy_(once)
    assert torch.allclose(owner.seen(torch.float32), once, atol=1e-3 * once.abs().max())


@pytest.mark.parametrize(("extended", "lowest"), [(False, -15), (True, -16)])
def test_a_training_may_have_scales_and_codes_of_its_own(extended, lowest):
    """Rows long enough for their 0.9995-quantile to lie far below their largest weight use the code beyond it."""
    technique = SteQat(scales="quantile", extended=extended)
    weight = torch.linspace(-0.5, 0.5, 4001).repeat(2, 1)
    weight[:, 0], weight[0] = -3.0, weight[0] * 4
    info = ParameterInfo("blocks.0.mlp.up.weight", "linear", "mlp", (2, 4001), 0)
    for floor, smallest in ((False, 0.0), (True, 1 / 15)):
        fake = dataclasses.replace(technique, floor=floor).build(TINY)
        grid = fake.rule.grid(info, parse("int5_rows"), TINY)
        seen = fake._wrapped(grid, info, parse("row_max").build(TINY))(weight)
        scale = (torch.quantile(weight.abs(), 0.9995, dim=1) / 15).clamp_min(smallest)
        codes = torch.round(seen / scale[:, None])
        assert torch.allclose(seen, codes * scale[:, None], atol=1e-6)
        assert (int(codes.min()), int(codes.max())) == (lowest, 15)
