"""Rotated values: the model computes the same as before (parity), other weights are stored, and calibration sees those."""

from __future__ import annotations

import pytest
import torch

from golflab.model.compression.finish import calibration
from golflab.model.compression.quantize import rotated
from golflab.model.network.layers import parameters_of
from golflab.model.technique import parse
from golflab.model.techniques.quantise.rotate_values import hadamard
from tests.contract_helpers import BASE, awake, default, ids_and_targets, load, stream, weights_of

MODELS = (
    "rope",
    "xsa:last=4,gated=true",
    "xsa_diagonal:last=4",
    "value_embedding:dim=8,last=3",
    "value_residual",
    "value_residual:form=softmax",
    "gated_attention:window=5,bias=0,learned_bias=false",
    "two_lanes:form=simultaneous,x0=first,skips=first",
    "depth_recurrence:first=1,final=2,mode=inline",
)


@pytest.mark.parametrize("technique", MODELS)
def test_the_function_stays_and_the_weights_change(technique):
    model, (ids, _) = awake(BASE.with_(parse(technique))), ids_and_targets()
    before, weights = model.logits(ids), weights_of(model)
    after = rotated(weights, parameters_of(model), BASE.with_(default("rotate_values")))
    changed = {name for name, w in after.items() if not torch.equal(w, weights[name])}
    expected = {f"blocks.{i}.attention.{part}.weight" for i in range(4) for part in ("value", "out")}
    assert changed == expected | ({"value_add.project.weight"} if "value_embedding" in technique else set())
    load(model, after)
    assert torch.allclose(model.logits(ids), before, atol=2e-4)


def test_a_head_is_rotated_by_itself():
    recipe = BASE.with_(default("rotate_values"))
    model = awake(recipe)
    weights = weights_of(model)
    after, r = rotated(weights, parameters_of(model), recipe), hadamard(8)
    value, out = (f"blocks.2.attention.{part}.weight" for part in ("value", "out"))
    for head in range(2):
        mine = slice(8 * head, 8 * head + 8)
        assert torch.allclose(after[value][mine], r @ weights[value][mine], atol=1e-5)
    for head in range(4):
        mine = slice(8 * head, 8 * head + 8)
        assert torch.allclose(after[out][:, mine], weights[out][:, mine] @ r.T, atol=1e-5)


@pytest.mark.parametrize(("size", "block"), [(1, 1), (2, 2), (8, 8), (24, 8), (64, 64)])
def test_hadamard_is_orthogonal_with_entries_of_one_size(size, block):
    r = hadamard(size)
    assert torch.allclose(r @ r.T, torch.eye(size), atol=1e-6)
    entries = r[:block, :block]
    assert torch.allclose(entries.abs(), torch.full((block, block), block**-0.5))
    assert torch.equal(r, torch.block_diag(*[entries] * (size // block)))


def test_calibration_reads_what_the_rotated_matrices_read():
    plain = BASE.with_(parse("gptq:tokens=256"))
    model = awake(plain)
    weights = weights_of(model)
    before, after = (calibration(r, model, stream()) for r in (plain, plain.with_(default("rotate_values"))))
    assert all(torch.equal(p, weights[n]) for n, p in model.named_parameters()), "the model keeps its own weights"
    turn = torch.block_diag(*[hadamard(8)] * 4)
    for name, h in before.items():
        expected = turn @ h @ turn.T if name.endswith(".out.weight") else h
        assert torch.allclose(after[name], expected, atol=1e-3 * float(h.diagonal().mean()) + 1e-5), name
