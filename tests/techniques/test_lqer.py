"""LQER: which matrices are corrected, and by what, against singular values taken one at a time."""

from __future__ import annotations

import pytest
import torch

from golflab.model.compression.artifact import pack, unpack
from golflab.model.compression.quantize import quantise
from golflab.model.network.layers import ParameterInfo
from golflab.model.recipe import Recipe
from golflab.model.technique import parse
from tests.matrices import infos, matrix, weights

PLAIN = Recipe().with_(parse("int4_rows"), parse("zlib_codec"))
INFO = [ParameterInfo("w", "linear", "mlp", (40, 24), 0)]


def leading(error, rank):
    """Left vectors times singular values, and right vectors, each found as the leading eigenvector of what is left."""
    left, right, rest = [], [], error.double().clone()
    for _ in range(rank):
        _, vectors = torch.linalg.eigh(rest.T @ rest)
        v = vectors[:, -1]
        left.append(rest @ v)
        right.append(v)
        rest = rest - torch.outer(left[-1], v)
    return torch.stack(left, 1), torch.stack(right)


def assert_nearest(stored, wanted, step, lowest, largest):
    """Every stored number is the level nearest to the wanted one, but for hundredths of a step, as scales are fp16."""
    for have, want in zip(stored.tolist(), wanted.tolist(), strict=True):
        level = round(have / step)
        assert lowest <= level <= largest
        assert abs(have - level * step) < 0.01 * step
        assert abs(min(max(want / step, lowest), largest) - level) < 0.51


@pytest.mark.parametrize("group", [16, 64])
def test_the_product_is_the_quantised_leading_part_of_the_error(group):
    w = {"w": matrix(40, 24, spread=0.5)}
    plain = quantise(w, INFO, PLAIN)["w"].dequantised()
    got = quantise(w, INFO, PLAIN.with_(parse(f"lqer:rank=3,group={group}")))["w"]
    product = got.added[0]
    left, right = leading(w["w"] - plain, 3)
    a = product.left.dequantised().view(40, 3)
    b = product.right.dequantised().flatten()[: 3 * 24].view(3, 24)
    signs = torch.sign((b * right).sum(1))  # singular vectors are given up to their sign, which the levels -2 … 1 feel
    left, right = left * signs, right * signs[:, None]
    assert_nearest(a.flatten(), left.flatten(), float(left.abs().max()) / 1.5, -2, 1)
    for start in range(0, 3 * 24, group):
        run = right.flatten()[start : start + group]
        assert_nearest(b.flatten()[start : start + group], run, float(run.abs().max()) / 7.5, -8, 7)
    assert torch.allclose(got.dequantised(), plain + a @ b, atol=1e-6)


@pytest.mark.parametrize("select", ["error", "gain"])
def test_the_matrices_are_those_it_says(select):
    parameters = infos()
    w = weights(parameters, spread=0.8)
    w["blocks.0.key.weight"] = torch.outer(w["blocks.0.key.weight"][:, 0], torch.linspace(0.5, 1.5, 32))
    plain = quantise(w, parameters, PLAIN)
    everywhere = quantise(w, parameters, PLAIN.with_(parse("lqer:matrices=32")))
    gaps = {n: float((w[n] - q.dequantised()).norm()) for n, q in plain.items() if q.grid is not None}
    after = {n: float((w[n] - everywhere[n].dequantised()).norm()) for n in gaps}
    worth = gaps if select == "error" else {n: gaps[n] - after[n] for n in gaps}
    some = quantise(w, parameters, PLAIN.with_(parse(f"lqer:matrices=2,select={select}")))
    assert {n for n, q in some.items() if q.added} == set(sorted(worth, key=lambda n: -worth[n])[:2])


def test_it_comes_back_exactly_and_an_error_of_low_rank_goes():
    dice = torch.Generator().manual_seed(3)
    w = {"w": 0.1 * torch.randn(40, 24, generator=dice)}
    w["w"][:, :] += 0.04 * torch.outer(torch.ones(40), torch.ones(24))
    recipe = PLAIN.with_(parse("percentile"), parse("lqer:rank=8"))
    done, plain = quantise(w, INFO, recipe), quantise(w, INFO, recipe.without("lqer"))
    assert torch.equal(unpack(pack(done, recipe))["w"], done["w"].dequantised())
    assert (w["w"] - done["w"].dequantised()).norm() < (w["w"] - plain["w"].dequantised()).norm()


def test_of_noise_it_takes_up_a_few_percent():
    """The doubt: rank 4 of the rounding error of a large Gaussian matrix."""
    info = [ParameterInfo("w", "linear", "mlp", (1024, 256), 0)]
    w = {"w": torch.randn(1024, 256, generator=torch.Generator().manual_seed(0))}
    plain, done = (
        quantise(w, info, PLAIN.with_(parse("int6_rows"), *extra))["w"].dequantised() for extra in ((), (parse("lqer"),))
    )
    share = 1 - float((w["w"] - done).square().sum() / (w["w"] - plain).square().sum())
    assert 0.005 < share < 0.04
