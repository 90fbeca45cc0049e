"""The three kinds of parameter and their seams."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from golflab.model.network.gpt import GPT
from golflab.model.network.layers import Linear, Scale, Table, parameters_of
from tests.contract_helpers import BASE, awake, ids_and_targets


def filled(module):
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    return module


def test_linear_is_x_times_w_transposed():
    layer, x = filled(Linear(3, 5, "mlp")), torch.randn(2, 4, 3)
    expected = torch.stack([torch.stack([layer.weight @ x[b, t] for t in range(4)]) for b in range(2)])
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_a_table_looks_up_and_projects_with_the_same_rows():
    table, x = filled(Table(7, 3)), torch.randn(2, 3)
    assert torch.equal(table(torch.tensor([[6, 0]]), torch.float32)[0], table.weight[[6, 0]])
    assert torch.allclose(table.project(x), x @ table.weight.T)


def test_every_seam_acts():
    layer, x, seen = filled(Linear(3, 5, "mlp")), torch.randn(2, 3), []
    plain = layer(x)
    layer.observe = seen.append
    layer.delta = lambda x, y: y + 1
    layer.fake = lambda w: 2 * w
    assert torch.allclose(layer(x), 2 * plain + 1)
    assert seen[0] is x
    table = filled(Table(7, 3))
    row = table(torch.tensor([2]), torch.float32)
    table.fake = lambda w: 2 * w
    assert torch.equal(table(torch.tensor([2]), torch.float32), 2 * row)


def test_seams_act_in_a_whole_model_and_leave_no_trace():
    """Every matrix of a model is reached by all three seams, in training and in scoring."""
    model, (ids, targets) = awake(BASE), ids_and_targets()
    before, nats = model(ids, targets).item(), model.nats(ids, targets)
    for name, module in model.named_modules():
        if not isinstance(module, Linear | Table):
            continue
        calls = []
        module.observe = calls.append
        module.fake = lambda w: w.roll(1, 0)  # a factor would vanish in the norms
        assert model(ids, targets).item() != before, name
        module.fake = None
        module.delta = lambda x, y: y.roll(1, -1)
        assert model(ids, targets).item() != before, name
        assert not torch.equal(model.nats(ids, targets), nats), name
        module.delta = module.observe = None
        assert calls, name
    assert model(ids, targets).item() == before


def test_parameters_know_kind_role_and_layer():
    infos = {i.name: i for i in parameters_of(GPT(BASE))}
    up = infos["blocks.2.mlp.up.weight"]
    assert (up.kind, up.role, up.shape, up.layer, up.count) == ("linear", "mlp", (64, 32), 2, 2048)
    assert (infos["table.weight"].kind, infos["table.weight"].layer) == ("table", None)
    assert {i.kind for i in infos.values()} == {"linear", "table", "scale"}


def test_a_stray_parameter_is_an_error():
    model = GPT(BASE)
    model.stray = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"stray.weight lives in a Linear; put it in"):
        parameters_of(model)


def test_scale_casts():
    scale = filled(Scale((4,), 1.0))
    assert scale(torch.bfloat16).dtype == torch.bfloat16
