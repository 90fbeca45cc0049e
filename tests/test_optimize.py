"""Muon and Adam against slow versions, and who updates what."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from golflab.model.network.gpt import GPT
from golflab.model.network.layers import parameters_of
from golflab.model.technique import parse
from golflab.model.training.optimizers import NEWTON_SCHULZ, Adam, AdamGroup, Muon, Optimizers, orthogonalize
from tests.contract_helpers import BASE, awake, fresh, ids_and_targets, weights_of

RNG = torch.Generator().manual_seed(0)


@pytest.fixture
def exact(monkeypatch):
    """Newton–Schulz in float64: what is left of rounding is that of float32, in which weights and momenta are kept."""
    monkeypatch.setattr("golflab.model.training.optimizers.WORKING", torch.float64)


@pytest.mark.parametrize("shape", [(64, 64), (192, 64), (64, 192), (3, 48, 16)])
@pytest.mark.usefixtures("exact")
def test_newton_schulz_drives_singular_values_to_about_one(shape):
    """Checklist 10: at most 1.21; rectangular ones stay above 0.6, square ones keep a few near zero; directions are SVD's."""
    g = torch.randn(shape, generator=RNG, dtype=torch.float64)
    x = orthogonalize(g)
    assert x.shape == g.shape
    values = torch.linalg.svdvals(x)
    assert values.max() <= 1.21
    if shape[-1] != shape[-2]:
        assert values.min() >= 0.6
        u, _, vt = torch.linalg.svd(g, full_matrices=False)
        exact = u @ vt
        cosine = (x * exact).sum((-2, -1)) / (x.norm(dim=(-2, -1)) * exact.norm(dim=(-2, -1)))
        assert (cosine > 0.97).all()
    else:
        assert values.quantile(0.05) > 0.3


def test_newton_schulz_in_bfloat16_keeps_the_directions(monkeypatch):
    """As on a GPU. With 8 bits singular values are rougher, and a longest direction must not grow from step to step."""
    monkeypatch.setattr("golflab.model.training.optimizers.WORKING", torch.bfloat16)
    g = torch.randn((64, 192), generator=RNG)
    x = orthogonalize(g)
    assert x.dtype == torch.bfloat16
    values = torch.linalg.svdvals(x.float())
    assert 0.4 < values.min() <= values.max() < 1.4
    u, _, vt = torch.linalg.svd(g, full_matrices=False)
    assert (x.float() * (u @ vt)).sum() / (x.float().norm() * 8) > 0.9


def slow_muon(weight, gradients, lr, mu, decay, steps, multipliers):
    """The update of the definition, one matrix, float64 around a bfloat16-free Newton–Schulz."""
    w, buf = weight.double().clone(), torch.zeros_like(weight, dtype=torch.float64)
    a, b, c = NEWTON_SCHULZ
    for g, m in zip(gradients, multipliers, strict=True):
        buf = mu * buf + g.double()
        x = g.double() + mu * buf
        x = x / (x.norm() + 1e-7)
        if x.shape[0] > x.shape[1]:
            x = x.T
        for _ in range(steps):
            s = x @ x.T
            x = a * x + (b * s + c * s @ s) @ x
        if weight.shape[0] > weight.shape[1]:
            x = x.T
        w = w * (1 - lr * m * decay) - lr * m * max(1, weight.shape[0] / weight.shape[1]) ** 0.5 * x
    return w


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (12, 12)])
@pytest.mark.usefixtures("exact")
def test_muon_is_its_definition(shape):
    weight = torch.randn(shape, generator=RNG)
    gradients = [torch.randn(shape, generator=RNG) for _ in range(4)]
    p = nn.Parameter(weight.clone())
    muon = Muon([("w", p)], 0.1, (0.9, 0.9, 0.0), 0.3, 5)
    multipliers = [1.0, 1.0, 0.5, 0.25]
    for g, m in zip(gradients, multipliers, strict=True):
        p.grad = g.clone()
        muon.step(m, 0.5)
    expected = slow_muon(weight, gradients, 0.1, 0.9, 0.3, 5, multipliers)
    moved = (expected - weight.double()).norm()
    # Four steps of float32 rounding (2⁻²³), which Newton–Schulz magnifies by at most the slope at 0 of its five iterations.
    assert (p.detach().double() - expected).norm() < 4 * 2**-23 * NEWTON_SCHULZ[0] ** 5 * moved


@pytest.mark.usefixtures("exact")
def test_stacking_matrices_changes_nothing():
    """Three equal shapes in one stack, one without a gradient, against each by itself."""
    starts = [torch.randn(6, 9, generator=RNG) for _ in range(3)]
    together, alone = ([nn.Parameter(s.clone()) for s in starts] for _ in range(2))
    one = Muon([(str(i), p) for i, p in enumerate(together)], 0.1, (0.9, 0.9, 0.0), 0.1, 5)
    each = [Muon([(str(i), p)], 0.1, (0.9, 0.9, 0.0), 0.1, 5) for i, p in enumerate(alone)]
    for step in range(3):
        for i, (a, b) in enumerate(zip(together, alone, strict=True)):
            a.grad = None if step == 1 and i == 1 else torch.randn(6, 9, generator=RNG)
            b.grad = None if a.grad is None else a.grad.clone()
        one.step(1.0, 0.5)
        for optimizer in each:
            optimizer.step(1.0, 0.5)
    bound = 3 * 2**-23 * NEWTON_SCHULZ[0] ** 5 * 0.1  # as above, of updates of length 0.1 an element at most
    assert all(torch.allclose(a, b, rtol=0, atol=bound) for a, b in zip(together, alone, strict=True))


def test_momentum_warms_linearly():
    muon = Muon([("w", nn.Parameter(torch.zeros(2, 2)))], 0.1, (0.85, 0.95, 0.1), 0.0, 5)
    assert [round(muon.momentum_at(p), 4) for p in (0.0, 0.05, 0.1, 0.7)] == [0.85, 0.9, 0.95, 0.95]


@pytest.mark.parametrize("text", ["muon:weight_decay=0.2", "muon_eq_r:weight_decay=0.2", "parallel_muon:weight_decay=0.2"])
def test_at_multiplier_zero_nothing_moves(text):
    """Checklist 11: decay uses the scheduled rate."""
    recipe = BASE.with_(parse(text), parse("adam_groups:weight_decay=0.2"))
    model = awake(recipe)
    before, optimizers = weights_of(model), Optimizers(model, recipe)
    model(*ids_and_targets()).backward()
    optimizers.step(0.0, 1.0)
    assert all(torch.equal(before[n], w) for n, w in weights_of(model).items())
    optimizers.step(1.0, 1.0)
    assert all(not torch.equal(before[n], w) for n, w in weights_of(model).items())


@pytest.mark.parametrize("coupled", [False, True])
def test_adam_is_its_definition(coupled):
    weight, lr, decay = torch.randn(5, generator=RNG), 0.1, 0.2
    gradients = [torch.randn(5, generator=RNG) for _ in range(5)]
    p = nn.Parameter(weight.clone())
    adam = Adam({"w": p}, [AdamGroup(("w",), lr, decay, coupled)], (0.9, 0.95), 1e-8)
    w, m, v = weight.double(), 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        p.grad = g.clone()
        adam.step(0.5, 0.0)
        wide = g.double() + decay * w if coupled else g.double()
        m, v = 0.9 * m + 0.1 * wide, 0.95 * v + 0.05 * wide**2
        if not coupled:
            w = w * (1 - 0.5 * lr * decay)
        w = w - 0.5 * lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-8)
    assert torch.allclose(p.double(), w, atol=1e-5)


def test_state_continues_bit_exactly():
    recipe = BASE.with_(parse("muon:weight_decay=0.1"))

    def steps(model, optimizers, seeds):
        for seed in seeds:
            model.zero_grad(set_to_none=True)
            model(*ids_and_targets(seed=seed)).backward()
            optimizers.step(1.0, 0.1 * seed)

    straight = fresh(recipe)
    optimizers = Optimizers(straight, recipe)
    steps(straight, optimizers, range(2))
    halted = fresh(recipe)
    halted.load_state_dict(straight.state_dict())
    resumed = Optimizers(halted, recipe)
    resumed.load({k: v.clone() for k, v in optimizers.state().items()})
    steps(straight, optimizers, range(2, 4))
    steps(halted, resumed, range(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), halted.parameters(), strict=True))


def test_kinds_go_where_they_belong():
    model = GPT(BASE.with_(parse("bigram_hash:buckets=64,dim=8"), tied=False))
    optimizers = Optimizers(model, BASE)
    muon = {key.removeprefix("momentum.") for part in optimizers.parts if isinstance(part, Muon) for key in part.state()}
    assert muon == {i.name for i in parameters_of(model) if i.kind == "linear" and i.role != "head"}


def test_a_group_named_twice_is_an_error(monkeypatch):
    twice = [AdamGroup(("table.weight",), 0.1), AdamGroup(("table.weight",), 0.2)]
    model = GPT(BASE)
    monkeypatch.setattr("golflab.model.recipe.Recipe.build", lambda recipe, slot: (lambda infos: twice, (0.9, 0.95), 1e-8))
    with pytest.raises(RuntimeError, match="every table and scale once"):
        Optimizers(model, BASE)


def test_newton_schulz_works_in_float32_on_a_cpu(monkeypatch):
    """bfloat16 takes four times as long there, and is a hundred times further from what is meant."""
    matrices = torch.randn(3, 16, 24)
    found = orthogonalize(matrices)
    assert found.dtype == torch.float32
    monkeypatch.setattr("golflab.model.training.optimizers.WORKING", torch.float64)
    assert torch.allclose(found.double(), orthogonalize(matrices), atol=1e-4)
