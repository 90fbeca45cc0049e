"""The forward pass: counts, the first loss, topology."""

from __future__ import annotations

import math

import pytest
import torch

from golflab.model.network.gpt import GPT
from golflab.model.network.layers import parameters_of
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import parse
from golflab.spaces.presets import BASELINE
from tests.contract_helpers import BASE, TINY, awake, fresh, ids_and_targets


def count(recipe: Recipe) -> int:
    with torch.device("meta"):
        return sum(i.count for i in parameters_of(GPT(recipe)))


def test_the_baseline_has_the_published_number_of_parameters():
    assert count(BASELINE) == 17_059_912


def test_kv_heads_width_and_tying_cost_what_they_should():
    assert count(BASELINE.with_(kv_heads=8)) - count(BASELINE) == 9 * 262_144
    assert count(BASELINE.with_(hidden=1536)) - count(BASELINE) == 9 * 524_288
    assert count(BASELINE.with_(tied=False)) - count(BASELINE) == 1024 * 512


@pytest.mark.parametrize("tied", [True, False])
def test_the_first_loss_is_that_of_a_uniform_guess(tied):
    recipe = BASE.with_(width=64, heads=4, tied=tied)
    ids, targets = ids_and_targets()
    assert math.isclose(fresh(recipe)(ids, targets).item(), math.log(TINY.vocabulary), abs_tol=0.02)


def test_a_plain_model_is_the_loop_written_out():
    """No technique but the defaults: every step of the forward pass in float64."""
    recipe = Recipe(shape=TINY)
    model = awake(recipe)
    ids, _ = ids_and_targets(rows=1)
    w = {n: p.detach().double() for n, p in model.named_parameters()}

    def norm(x):
        return x / (x.square().mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()

    def rotated(x, t):
        a, b = x[:4], x[4:]
        angle = torch.tensor([t * 10_000 ** (-2 * i / 8) for i in range(4)], dtype=torch.float64)
        return torch.cat([a * angle.cos() + b * angle.sin(), b * angle.cos() - a * angle.sin()])

    x = norm(w["table.weight"][ids[0]])
    for layer in range(TINY.layers):
        h, name = norm(x), f"blocks.{layer}.attention"
        q, k, v = (h @ w[f"{name}.{part}.weight"].T for part in ("query", "key", "value"))
        out = torch.zeros_like(x)
        for t in range(TINY.context):
            for head in range(4):
                mine, its = slice(8 * head, 8 * head + 8), slice(8 * (head // 2), 8 * (head // 2) + 8)
                scores = [rotated(q[t, mine], t) @ rotated(k[s, its], s) / math.sqrt(8) for s in range(t + 1)]
                out[t, mine] = torch.softmax(torch.stack(scores), 0) @ v[: t + 1, its]
        x = x + out @ w[f"{name}.out.weight"].T
        x = x + (norm(x) @ w[f"blocks.{layer}.mlp.up.weight"].T).clamp(min=0).square() @ w[f"blocks.{layer}.mlp.down.weight"].T
    expected = norm(x) @ w["table.weight"].T
    assert torch.allclose(model.logits(ids)[0].double(), expected, atol=1e-4)


def test_loss_and_nats_agree():
    model, (ids, targets) = awake(BASE), ids_and_targets()
    assert torch.allclose(model(ids, targets), model.nats(ids, targets).mean(), atol=1e-5)


def test_bfloat16_is_close_to_float32():
    ids, targets = ids_and_targets()
    wide = awake(BASE)
    narrow = GPT(BASE, torch.bfloat16)
    narrow.load_state_dict(wide.state_dict())
    assert torch.allclose(wide(ids, targets), narrow(ids, targets), atol=0.15)
    assert narrow.logits(ids).dtype == torch.float32


def test_longer_texts_than_trained_on_are_read():
    model = awake(BASE)
    ids = torch.randint(2, TINY.vocabulary, (1, 3 * TINY.context))
    full = model.nats(ids[:, :-1], ids[:, 1:])
    assert torch.allclose(model.nats(ids[:, :20], ids[:, 1:21]), full[:, :20], atol=1e-5)


@pytest.mark.parametrize(("layers", "skips"), [(1, 0), (2, 1), (10, 5), (11, 5)])
def test_skip_counts(layers, skips):
    """Ten layers use five skips; eleven use five and the last block has none."""
    infos = {i.name: i for i in parameters_of(GPT(BASE.with_(layers=layers)))}
    assert infos["skips.weight.weight"].shape[0] == skips if skips else "skips.weight.weight" not in infos


def test_one_layer_and_odd_shapes_run():
    ids = torch.randint(2, 50, (1, 5))
    for shape in (Shape(1, 8, 2, 1, 3, 50, 5), Shape(3, 12, 2, 2, 7, 50, 4, tied=False)):
        recipe = Recipe(shape=shape).with_(parse("unet_skips"), parse("backout"), parse("smear_gate"))
        assert torch.isfinite(awake(recipe).logits(ids)).all()
