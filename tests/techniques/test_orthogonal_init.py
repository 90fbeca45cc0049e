"""Orthogonal init: which matrices, which gain."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from golflab.model.network.layers import parameters_of
from golflab.model.techniques.model.orthogonal_init import OrthogonalInit
from tests.contract_helpers import BASE, default, fresh

EXTRA = BASE.with_(default("bigram_hash"), default("value_embedding"))


def gain(weight):
    """The common singular value of an orthogonal matrix, or None."""
    s = torch.linalg.svdvals(weight.double())
    return s[0].item() if torch.allclose(s, s[0].expand_as(s), atol=1e-5) else None


@pytest.mark.parametrize(
    ("knobs", "out", "side"),
    [({}, 0.0, 1.0), ({"outputs": "scaled"}, 8**-0.5, 1.0), ({"side_scale": True}, 0.0, 8**-0.5)],
)
def test_gains_by_role(knobs, out, side):
    model = fresh(EXTRA.with_(OrthogonalInit(smallest=1, **knobs)))
    for info in parameters_of(model):
        weight = model.get_parameter(info.name)
        if info.kind != "linear":
            continue
        writes = info.name.endswith(("out.weight", "down.weight"))
        expected = out if writes else side if info.role in ("bigram", "value") else 1.0
        assert gain(weight) == pytest.approx(expected, abs=1e-5), info.name


def test_tables_only_on_request_and_never_the_token_table():
    live = EXTRA.with_(dataclasses.replace(default("bigram_hash"), start="both_live"))
    plain = fresh(live)
    for tables in (False, True):
        model = fresh(live.with_(OrthogonalInit(smallest=1, tables=tables)))
        assert torch.equal(model.table.weight, plain.table.weight)
        assert (gain(model.embed["bigram_hash"].table.weight) == pytest.approx(1.0)) == tables


def test_small_matrices_are_left_alone():
    model, plain = fresh(BASE.with_(OrthogonalInit(smallest=20))), fresh(BASE)
    name = "blocks.0.attention.key.weight"  # (16,32)
    assert torch.equal(model.get_parameter(name), plain.get_parameter(name))
    assert gain(model.get_parameter("blocks.0.mlp.up.weight")) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("start", ["zero_table", "zero_projection", "both_live"])
def test_a_start_that_another_technique_has_a_knob_for_is_left_to_it(start):
    """Each start is another model, whatever else orthogonal initialisation draws."""
    bigrams = dataclasses.replace(default("bigram_hash"), start=start)
    module = fresh(BASE.with_(bigrams, OrthogonalInit(smallest=1, tables=True))).embed["bigram_hash"]
    assert bool(module.table.weight.any()) == (start != "zero_table")
    assert bool(module.project.weight.any()) == (start != "zero_projection")
