import pytest
import torch

from golflab.model.compression.quantize import quantise
from golflab.model.recipe import Recipe
from golflab.model.technique import parse
from tests.matrices import LINEAR, matrix


@pytest.mark.parametrize("fraction", [0.0, 0.08, 0.5])
def test_zeroes_that_share_of_the_smallest(fraction):
    w = matrix(64, 96)
    pruned = parse(f"magnitude:fraction={fraction}").build(None)(w, LINEAR).weight
    gone = pruned == 0
    assert int(gone.sum()) == int(fraction * w.numel())
    assert not gone.any() or float(w[gone].abs().max()) <= float(w[~gone].abs().min())


def test_after_rounding_the_same_weights_are_zero():
    w = {"w": matrix(64, 96)}
    before, after = (
        quantise(w, [LINEAR], Recipe().with_(parse("int6_rows"), parse(f"magnitude:fraction=0.3,when={when}")))["w"]
        for when in ("before", "after")
    )
    assert torch.equal(before.values, after.values)
    assert float((before.values == 0).float().mean()) >= 0.2999


def test_the_mask_holds_through_gptq_and_without_it_zeros_are_refilled():
    x = torch.randn(500, 96, generator=torch.Generator().manual_seed(3)) @ matrix(96, 96, seed=4)
    hessian = {"w": x.T @ x / 500}
    zeros = {}
    for mask in ("true", "false"):
        recipe = Recipe().with_(parse("int8_rows"), parse("gptq"), parse(f"magnitude:fraction=0.3,mask={mask}"))
        zeros[mask] = float((quantise({"w": matrix(64, 96)}, [LINEAR], recipe, hessian)["w"].values == 0).float().mean())
    assert zeros["true"] >= 0.2999
    assert zeros["false"] < zeros["true"] - 0.02


def test_small_matrices_are_left_alone_on_request():
    w = matrix(64, 96)
    assert torch.equal(parse(f"magnitude:small={w.numel()}").build(None)(w, LINEAR).weight, w)
