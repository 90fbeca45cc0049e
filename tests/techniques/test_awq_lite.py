"""AWQ-lite: which columns it protects, and what becomes of them, against loops."""

from __future__ import annotations

import pytest
import torch

from golflab.model.compression.additions import Columns
from golflab.model.compression.artifact import pack, unpack
from golflab.model.compression.gptq import factorise, gptq_round
from golflab.model.compression.grid import Finer, Grid, stored_scales
from golflab.model.compression.quantize import quantise
from golflab.model.network.layers import ParameterInfo
from golflab.model.recipe import Recipe
from golflab.model.technique import parse
from tests.matrices import matrix, weighted_error

INFOS = [
    ParameterInfo("table", "table", "table", (40, 32), None),
    ParameterInfo("up", "linear", "mlp", (48, 32), 0),
    ParameterInfo("down", "linear", "mlp", (32, 48), 0),
    ParameterInfo("gain", "scale", "scale", (32,), 0),
]
RECIPE = Recipe().with_(*map(parse, ("int6_rows", "sd_clip:k=9,table=12", "gptq", "awq_lite:width=8,groups=2", "zlib_codec")))


def case():
    weights = {
        i.name: matrix(*i.shape, seed=k, spread=0.3) if len(i.shape) == 2 else torch.ones(32) for k, i in enumerate(INFOS)
    }
    inputs = {
        name: torch.randn(200, 48 if name == "down" else 32) @ matrix(*[48 if name == "down" else 32] * 2, spread=0.5)
        for name in ("table", "up", "down")
    }
    return weights, {name: x.T @ x / 200 for name, x in inputs.items()}


def test_the_best_runs_of_the_whole_model_are_protected():
    weights, hessians = case()
    scores = {}
    for name, w in weights.items():
        for start in range(0, w.shape[1] if w.dim() == 2 and name != "table" else 0, 8):
            sizes = [
                hessians[name][j, j].sqrt() * sum(abs(w[i, j]) for i in range(len(w))) / len(w) for j in range(start, start + 8)
            ]
            scores[name, start] = float(sum(sizes))
    best = sorted(scores, key=lambda key: -scores[key])[:2]
    done = quantise(weights, INFOS, RECIPE, hessians)  # int6_rows keeps the table at eight bits, where nothing is to protect
    protected = [(name, addition.start) for name, q in done.items() for addition in q.added]
    assert sorted(protected) == sorted(best)


def test_protected_columns_are_eight_bits_inside_the_solve():
    weights, hessians = case()
    done = quantise(weights, INFOS, RECIPE, hessians)
    for name in ("up", "down"):
        w, finer = weights[name], []
        for addition in done[name].added:
            assert isinstance(addition, Columns)
            block = w[:, addition.start : addition.start + 8]
            scales = stored_scales(9 * block.std(dim=1, correction=0) / 127)
            finer.append(Finer(slice(addition.start, addition.start + 8), scales, Grid(127, -127)))
            assert torch.equal(addition.part.scales, scales.half())
            assert not done[name].values[:, addition.start : addition.start + 8].any()
        scales = stored_scales(9 * w.std(dim=1, correction=0) / 31)
        expected = gptq_round(w, scales, Grid(31, -31), factorise(hessians[name]), finer=finer)
        for block in finer:
            expected[:, block.columns] *= block.scales[:, None]
        rest = [j for j in range(w.shape[1]) if not any(f.columns.start <= j < f.columns.stop for f in finer)]
        expected[:, rest] *= scales[:, None]
        assert torch.allclose(done[name].dequantised(), expected, atol=1e-6)


@pytest.mark.parametrize("columns", [slice(0, 8), slice(40, 72), slice(200, 300)])
def test_the_solve_with_finer_columns_is_the_naive_one(columns):
    """Column by column, each error spread at once over all columns not yet rounded, with an explicit inverse."""
    w, x = matrix(6, 300, seed=1), torch.randn(900, 300, dtype=torch.float64)
    hessian = (x.T @ x / 900).float()
    scales, fine = w.abs().amax(1) / 7, w.abs().amax(1) / 127
    got = gptq_round(w, scales, Grid(7, -7), factorise(hessian, "natural"), finer=[Finer(columns, fine, Grid(127, -127))])
    left, inverse = (
        w.double().clone(),
        torch.linalg.inv(hessian.double() + 0.01 * hessian.double().diagonal().mean() * torch.eye(300)),
    )
    mismatches = 0
    for j in range(300):
        steps, c = (fine, 127) if columns.start <= j < columns.stop else (scales, 7)
        level = torch.round(left[:, j] / steps).clamp(-c, c)
        mismatches += int((level != got[:, j]).sum())
        level = got[:, j].double()  # follow the fast one, so that a rounding on the border does not spoil all that follows
        error = (left[:, j] - level * steps) / inverse[j, j]
        left = left - error[:, None] * inverse[j][None, :]
        inverse = inverse - torch.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    assert mismatches <= 2


def test_it_loses_less_and_comes_back_exactly():
    weights, hessians = case()
    done, plain = (quantise(weights, INFOS, recipe, hessians) for recipe in (RECIPE, RECIPE.without("awq_lite")))
    errors = [sum(weighted_error(weights[n], q[n].dequantised(), h) for n, h in hessians.items()) for q in (done, plain)]
    assert errors[0] < 0.95 * errors[1]
    back = unpack(pack(done, RECIPE))
    assert all(torch.equal(back[name], q.dequantised()) for name, q in done.items())
    assert len(pack(done, RECIPE)) > len(pack(plain, RECIPE))


def test_without_hessians_nothing_is_protected():
    weights, _ = case()
    assert not any(q.added for q in quantise(weights, INFOS, RECIPE).values())
