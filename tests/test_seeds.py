"""The presets "as published" against the submissions' code: what training rounds, what is stored how, what starts where."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch
from torch import Tensor

from golflab.model.compression.quantize import quantise
from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import generator, initialize
from golflab.model.network.layers import Linear, parameters_of
from golflab.model.recipe import Recipe
from golflab.spaces.presets import PRESETS
from golflab.spaces.scales import at_scale

PUBLISHED = ("seed_849_as_published", "seed_680_as_published", "seed_1499_as_published", "seed_295_as_published")


def small(name: str) -> Recipe:
    """The preset at the width of the proxy and its own depth; limits on sizes go with the width."""
    full = PRESETS[name]
    shape = dataclasses.replace(
        full.shape, width=128, heads=4, kv_heads=full.shape.kv_heads // 2, hidden=full.shape.hidden // 4, vocabulary=300
    )
    return dataclasses.replace(full, shape=shape, techniques=tuple(t.rescale(full.shape, shape) for t in full.techniques))


@functools.cache
def trained(preset: str) -> tuple[Recipe, GPT, set[str], dict[str, tuple[Tensor, Tensor]]]:
    """A preset, its model with noise on every weight, its matrices, and those that training rounds: name -> (weight, seen)."""
    recipe = small(preset)
    model = initialize(GPT(recipe), recipe)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.add_(torch.randn(p.shape, generator=generator(3, name)) * 0.05)
    controller = recipe.build("fake_quant")
    controller.attach(model, recipe)
    controller.update(0.0)
    linears = {name: m for name, m in model.named_modules() if isinstance(m, Linear)}
    with torch.no_grad():
        seen = {name: (m.weight.detach(), m.fake(m.weight)) for name, m in linears.items() if m.fake is not None}
    return recipe, model, set(linears), seen


def rounded(w: Tensor, clip: Tensor, c: int, floor: bool, lowest: int) -> Tensor:
    """What the submissions write: scale = clip/c, perhaps at least 1/c; codes from ``lowest`` to c."""
    scale = (clip / c).clamp_min(1 / c) if floor else clip / c
    return torch.clamp(torch.round(w / scale[:, None]), lowest, c) * scale[:, None]


@pytest.mark.parametrize("preset", PUBLISHED)
def test_training_rounds_as_the_submissions_code(preset):
    recipe, _, linears, seen = trained(preset)
    sides = {name for name in linears if name.startswith(("embed.", "value_add."))}
    keys = [f"blocks.{layer}.attention.key" for layer in range(recipe.shape.layers)]
    expected = {
        "seed_849_as_published": linears,
        "seed_680_as_published": sides,
        "seed_1499_as_published": linears,
        "seed_295_as_published": linears - sides,
    }
    assert set(seen) == expected[recipe.name]
    if recipe.name == "seed_295_as_published":
        assert set(keys[-2:]) <= set(seen), "it trains the keys rounded that its export keeps in fp16"
    for name, (w, fake) in seen.items():
        top = w.abs().amax(1)
        five = 15 if ".mlp." in name else 31
        wanted = {
            "seed_849_as_published": lambda w=w: rounded(w, torch.quantile(w.abs(), 0.9995, dim=1), 15, True, -16),
            "seed_680_as_published": lambda w=w, top=top: rounded(w, top, 31, True, -32),
            "seed_1499_as_published": lambda w=w, top=top, c=five: rounded(w, top, c, False, -c),
            "seed_295_as_published": lambda w=w, top=top, c=five: rounded(w, top, c, False, -c),
        }[recipe.name]()
        assert torch.allclose(fake, wanted, atol=1e-6), name


def test_1499_trained_on_a_fine_grid_and_exported_on_a_coarse_one():
    """Its export's floor loses several times what its training had seen: the published collapse."""
    recipe, model, _, seen = trained("seed_1499_as_published")
    infos = {i.name: i for i in parameters_of(model)}
    clip = recipe.build("clip")
    for name, c in (("blocks.0.attention.query", 31), ("blocks.0.mlp.up", 15)):
        w, fake = seen[name]
        stored = rounded(w, clip(w, c, infos[f"{name}.weight"]) * c, c, False, -c)
        assert (fake - w).norm() < 0.09 * w.norm()
        assert (stored - w).norm() > 2 * (fake - w).norm()


def scales_of(recipe: Recipe, model: GPT) -> dict[str, tuple[Tensor, Tensor, int]]:
    """Name -> weight, scales and largest level of everything that the export stores on a grid, rounded without Hessians."""
    weights = {name: p.detach() for name, p in model.named_parameters()}
    unpruned = recipe.without(*(t.name for t in recipe.techniques if t.slot == "prune"))
    done = quantise(weights, parameters_of(model), unpruned, None, code_bytes=0)
    return {n: (weights[n], q.scales.float(), q.grid.largest) for n, q in done.items() if q.grid is not None}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_the_export_floors_the_scales_that_the_submission_floors(preset):
    recipe, model, _, _ = trained(preset)
    without_floor = {"seed_1499_as_published": ("embed.bigram_hash.table.weight",)}
    for name, (w, scales, c) in scales_of(recipe, model).items():
        floored = recipe.name != "seed_295_as_published" and name not in without_floor.get(recipe.name, ())
        if floored:
            assert float(scales.min()) >= (1 / c) * (1 - 2**-10), name
        else:
            assert torch.allclose(scales, w.abs().amax(1) / c, rtol=2**-10), name


def test_849_rounds_its_token_table_without_a_hessian():
    gptq = PRESETS["seed_849_as_published"].technique_in("rounding")
    assert (gptq.tables, gptq.tokens) == (False, 128 * 2048)
    assert PRESETS["seed_1499_as_published"].technique_in("rounding").tokens == 256 * 1024


@pytest.mark.parametrize("name", [n for n in PUBLISHED if "680" not in n])
def test_pruning_lets_zeros_be_refilled_and_leaves_small_matrices_alone(name):
    prune = PRESETS[name].technique_in("prune")
    assert (prune.mask, prune.small) == (False, 65_536)
    proxy = at_scale(PRESETS[name], "proxy").technique_in("prune")
    assert proxy.small == 65_536 // 16, "a number of elements goes with the square of the width"


@pytest.mark.parametrize("name", ["seed_295", "seed_295_as_published"])
def test_295_starts_with_a_projection_of_zeros(name):
    recipe = small(name)
    hashed = initialize(GPT(recipe), recipe).embed["bigram_hash"]
    assert not hashed.project.weight.any()
    table = hashed.table.weight.double()
    orthogonal = torch.allclose(table.mT @ table, torch.eye(table.size(1)).double(), atol=1e-5)
    assert orthogonal == (name == "seed_295_as_published")


@pytest.mark.parametrize("name", ["seed_849", "seed_680"])
def test_849_and_680_draw_the_value_embeddings_projection(name):
    recipe = small(name)
    project = initialize(GPT(recipe), recipe).value_add.project.weight.double()
    gain = (2 * recipe.shape.layers) ** -0.5 if name == "seed_849" else 1.0
    assert torch.allclose(torch.linalg.svdvals(project), torch.full((min(project.shape),), gain).double(), atol=1e-5)
