"""ValueEmbedding by hand: one table, a gain per layer, only the last layers."""

from __future__ import annotations

import dataclasses

import torch

from golflab.model.techniques.model.value_embedding import ValueEmbedding
from tests.contract_helpers import BASE, TINY, awake, default


def test_it_is_the_formula_in_the_last_layers_only():
    module = ValueEmbedding(dim=4, last=2).build(TINY)
    with torch.no_grad():
        for p in module.parameters():
            p.normal_()
    ids = torch.tensor([[3, 250, 3]])
    added = module(ids, torch.float32)
    assert added[:2] == [None, None]
    assert len(added) == TINY.layers
    for j, values in enumerate(added[2:]):
        assert values.shape == (1, 3, 2, 8)
        for t in range(3):
            row = module.project.weight @ module.table.weight[ids[0, t]]
            assert torch.allclose(values[0, t].flatten(), module.gains.weight[j] * module.shared.weight * row, atol=1e-4)


def test_a_shallow_model_has_it_in_all_its_layers():
    """The published layer numbers do not exist in a shallower model, where the module was dead."""
    module = ValueEmbedding(dim=4, last=9).build(dataclasses.replace(TINY, layers=3))
    assert module.gains.weight.shape == (3,)


def test_it_reaches_the_values_before_they_are_mixed():
    model = awake(BASE.with_(default("value_embedding"), default("value_residual")))
    ids = torch.randint(2, 50, (1, 4))
    seen = {}
    model.blocks[3].attention.value_mix.register_forward_pre_hook(lambda m, args: seen.update(v=args[0]))
    model.logits(ids)
    attention = model.blocks[3].attention
    attention.value.register_forward_hook(lambda m, args, out: seen.update(own=out))
    model.logits(ids)
    extra = model.value_add(ids, torch.float32)[3]
    assert torch.allclose(seen["v"], seen["own"].unflatten(-1, (2, -1)) + extra, atol=1e-5)


def test_its_size_is_that_of_849_and_680():
    full = dataclasses.replace(TINY, layers=11, width=512, heads=8, vocabulary=1024)
    for kv_heads, size in ((8, 196_611), (4, 163_843)):
        module = ValueEmbedding().build(dataclasses.replace(full, kv_heads=kv_heads))
        assert sum(p.numel() for p in module.parameters()) == size
