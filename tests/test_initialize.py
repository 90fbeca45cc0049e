"""Initial tensors depend on the seed and their own name alone."""

from __future__ import annotations

import math

import torch

from golflab.model.network.initialize import generator
from golflab.model.technique import parse
from tests.contract_helpers import BASE, TINY, fresh, weights_of


def test_a_seed_and_a_name_make_a_tensor():
    a, b = generator(0, "x"), generator(0, "x")
    assert torch.equal(torch.randn(5, generator=a), torch.randn(5, generator=b))
    assert generator(0, "x").initial_seed() != generator(1, "x").initial_seed() != generator(1, "y").initial_seed()


def test_seeds_differ_in_every_drawn_matrix():
    a, b = weights_of(fresh(BASE)), weights_of(fresh(BASE.with_(seed=1)))
    drawn = [n for n in a if n.endswith(("query.weight", "key.weight", "value.weight", "up.weight")) or n == "table.weight"]
    assert len(drawn) == 4 * TINY.layers + 1
    assert all(not torch.equal(a[n], b[n]) for n in drawn)
    values = torch.stack([a[f"blocks.{layer}.attention.query.weight"] for layer in range(TINY.layers)])
    assert not torch.equal(values[0], values[1])


def test_more_layers_keep_the_ones_there_were():
    a, b = weights_of(fresh(BASE)), weights_of(fresh(BASE.with_(layers=6)))
    assert all(torch.equal(a[n], b[n]) for n in a if n.startswith("blocks"))


def test_distributions():
    w = weights_of(fresh(BASE.with_(width=256, heads=4, vocabulary=1000)))
    assert math.isclose(w["table.weight"].std().item(), 0.005, rel_tol=0.02)
    query = w["blocks.0.attention.query.weight"]
    assert query.abs().max() <= 1 / 16
    assert math.isclose(query.std().item(), 1 / 16 / math.sqrt(3), rel_tol=0.02)
    assert not w["blocks.0.attention.out.weight"].any()
    assert not w["blocks.0.mlp.down.weight"].any()


def test_scales_start_where_their_technique_says():
    w = weights_of(fresh(BASE.with_(parse("q_gain:value=2.5"))))
    assert w["blocks.3.attention.q_gain.weight.weight"].tolist() == [2.5] * TINY.heads
    assert w["blocks.0.enter.weight.weight"][:, 0].tolist() == [1.0, 0.0]
    assert w["skips.weight.weight"].eq(1).all()


def test_initialising_touches_no_global_generator():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fresh(BASE)
    assert torch.equal(torch.get_rng_state(), before)
