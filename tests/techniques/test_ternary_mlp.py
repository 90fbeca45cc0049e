"""Ternary MLP: three values per row, only in the MLP, alive from zero."""

from __future__ import annotations

import pytest
import torch

from golflab.model.technique import parse
from golflab.model.techniques.train.ternary_mlp import TernaryMLP
from tests.contract_helpers import BASE, TINY, awake, fresh, ids_and_targets

RECIPE = BASE.with_(TernaryMLP(), parse("mixed_rows:mlp=2"))


def attached(model):
    fake = TernaryMLP().build(TINY)
    fake.attach(model, RECIPE)
    fake.update(1.0)
    return model


def test_rows_are_alpha_times_a_trit():
    model = attached(awake(RECIPE))
    for name in ("up", "down"):
        layer = model.blocks[1].mlp.get_submodule(name)
        seen = layer.seen(torch.float32)
        for w, got in zip(layer.weight.double(), seen.double(), strict=True):
            alpha = w.abs().mean().half().double()  # as it is stored
            trits = [max(-1, min(1, round(float(x / alpha)))) for x in w]
            assert torch.allclose(got, alpha * torch.tensor(trits), rtol=2e-3, atol=1e-7)


def test_attention_is_left_alone():
    model = attached(awake(RECIPE))
    assert model.blocks[0].attention.query.fake is None


def test_a_matrix_of_zeros_still_learns():
    """The output matrix starts at zero; its scale is then the smallest there is and gradients reach the latents."""
    model = attached(fresh(RECIPE))
    loss = model(*ids_and_targets())
    loss.backward()
    assert torch.isfinite(loss)
    assert model.blocks[0].mlp.down.weight.grad.abs().sum() > 0


def test_another_export_grid_is_refused():
    with pytest.raises(ValueError, match="add `mixed_rows:mlp=2`"):
        BASE.with_(TernaryMLP()).check()
