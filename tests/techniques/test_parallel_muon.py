"""Parallel Muon on two gloo processes against plain Muon on one and on two.

What must be equal is compared bit for bit. What two processes may round otherwise is compared over one step of a training, or
over steps whose gradients are given: in a longer training every rounding is magnified by the next step.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

import golflab.model.training.loop
import golflab.model.training.optimizers
from golflab.model.system.tensors import read_tensors
from golflab.model.technique import parse
from tests.contract_helpers import BASE, BATCH, TINY, stream, trained
from tests.processes import trainings

RATES = "lr=0.01,weight_decay=0.1"
TEXTS = [f"muon:{RATES}", f"parallel_muon:{RATES}", f"parallel_muon:{RATES},half=true"]
RECIPES = [BASE.with_(parse(text), layers=3, seconds=None) for text in TEXTS]
SHAPES = [(8, 12), (8, 12), (8, 12), (12, 8), (12, 8), (6, 6)]  # stacks of three, two and one, for two processes
STEPS = 4
EPS = 2.0**-23  # the distance of 1 to the next float32
# Newton–Schulz magnifies a difference of its input (length 1) by at most the slope at 0 of its polynomial, in each iteration.
MAGNIFIED = golflab.model.training.optimizers.NEWTON_SCHULZ[0] ** 5


def first_step(recipe):
    """Loss and optimiser state after one step: the momenta are the mean gradient, times 1 (Muon) or a part of it (Adam)."""
    recipe, golflab.model.training.loop.CHECKPOINT_SECONDS = recipe.with_(tokens=BATCH), 0.0
    source = recipe.build("batches")(stream(), BATCH, recipe.seed)
    shared = [tempfile.mkdtemp()]
    if dist.is_initialized():
        dist.broadcast_object_list(shared)
    done = golflab.model.training.loop.train(recipe, source, checkpoint=Path(shared[0]) / "c")
    if dist.is_initialized():
        dist.barrier()
    tensors, _ = read_tensors(Path(shared[0]) / "c")
    return done.curve[0]["loss"], {n: t for n, t in tensors.items() if "momentum." in n or "exp_avg." in n}


def given_gradients(rank, step):
    """Gradients of one process, of size one."""
    dice = torch.Generator().manual_seed(2 * step + rank)
    return [torch.randn(shape, generator=dice) for shape in SHAPES]


def optimised(text):
    """Weights and momenta after some steps with given gradients: each process its own, one process the mean of two."""
    golflab.model.training.optimizers.WORKING = torch.float64
    try:
        parameters = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
        muon = parse(text).build(TINY)([(str(i), p) for i, p in enumerate(parameters)])
        for step in range(STEPS):
            both = given_gradients(0, step), given_gradients(1, step)
            mine = both[dist.get_rank()] if dist.is_initialized() else [(a + b) / 2 for a, b in zip(*both, strict=True)]
            for parameter, gradient in zip(parameters, mine, strict=True):
                parameter.grad = gradient
            muon.begin()
            muon.step(1.0, step / STEPS)
        return [p.detach() for p in parameters], {name: m.clone() for name, m in muon.state().items()}
    finally:
        golflab.model.training.optimizers.WORKING = None


def work():
    return trainings(RECIPES), [first_step(recipe) for recipe in RECIPES[:2]], [optimised(text) for text in TEXTS[1:]]


@pytest.fixture(scope="module")
def runs(gloo_pair):
    """By process: trainings, first steps, optimisers."""
    return [done["parallel_muon"] for done in gloo_pair]


def test_all_processes_hold_the_same_weights(runs):
    (ours, _, our_parts), (theirs, _, their_parts) = runs
    for a, b in zip(ours, theirs, strict=True):
        assert all(torch.equal(a[0][n], b[0][n]) for n in a[0])
    for a, b in zip(our_parts, their_parts, strict=True):
        assert all(map(torch.equal, a[0], b[0]))


@pytest.mark.parametrize("index", [0, 1])
def test_two_processes_see_the_loss_and_the_gradient_of_one(runs, index):
    """A sum over half the batch and a mean of two halves, against a sum over the whole: float32 rounds them differently.

    An element is a sum of terms up to a thousand times as large, each wrong by a few units in its last place.
    """
    (loss, state), (alone, expected) = runs[0][1][index], first_step(RECIPES[0])
    assert loss == pytest.approx(alone, rel=16 * EPS)
    assert set(state) == set(expected)
    for name, tensor in expected.items():
        assert tensor.abs().max() > 0 or torch.equal(state[name], tensor)
        assert torch.allclose(state[name], tensor, rtol=0, atol=float(1000 * EPS * tensor.abs().max())), name


def test_sharding_changes_no_step_by_more_than_rounding(runs):
    """The mean gradient, the momentum and its sum with the gradient are rounded once each; Newton–Schulz magnifies that."""
    (sharded, momenta), (plain, expected) = runs[0][2][0], optimised(TEXTS[0])
    for name, tensor in expected.items():
        assert torch.allclose(momenta[name], tensor, rtol=STEPS * EPS, atol=STEPS * EPS), name
    for a, b, (rows, columns) in zip(sharded, plain, SHAPES, strict=True):
        assert b.abs().max() > 0.001
        assert (a - b).norm() < STEPS * 0.01 * max(1, rows / columns) ** 0.5 * MAGNIFIED * 4 * EPS


def test_half_precision_momentum_acts_and_is_rounded_only(runs):
    """bfloat16 keeps 8 bits: a product and a sum are each wrong by at most 2⁻⁸ of the value, in every step."""
    (_, momenta), (_, half) = runs[0][2]
    for name, exact in momenta.items():
        assert half[name].dtype == torch.bfloat16
        gap = (half[name].float() - exact).abs().max()
        assert 0 < gap <= STEPS * 2 * 2**-8 * 2 * exact.abs().max()
    trained_half, trained_whole = runs[0][0][2][0], runs[0][0][1][0]
    assert any(not torch.equal(trained_half[n], trained_whole[n]) for n in trained_half)


def test_on_one_process_it_is_muon():
    a, b = trained(RECIPES[0]).weights, trained(RECIPES[1]).weights
    assert all(torch.equal(a[n], b[n]) for n in a)
