"""Replicas: after every step all processes hold the same bits, whatever technique touches gradients, updates or averages.

One pair of gloo processes trains every such technique of the catalogue, and every optimiser of matrices beside every clip.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from golflab.model.recipe import Recipe
from golflab.model.technique import catalogue, parse
from golflab.model.techniques.train.parallel_muon import ShardedMuon
from golflab.model.training.loop import train
from golflab.model.training.optimizers import Optimizers
from tests.contract_helpers import BASE, BATCH, default, recipe_with, stream

SLOTS = ("clip_grad", "matrix_update", "groups", "schedule", "average", "penalty", "fake_quant")
STEPS = 3
TIGHT = "clip_norm:norm=0.05"  # far below the norm of these gradients, so that it acts in every step


def named(slot: str) -> list[str]:
    return [name for name, cls in catalogue().items() if cls.slot == slot]


def recipes() -> dict[str, Recipe]:
    """By what they try: three layers, so that stacks of matrices do not divide by two processes."""
    small = BASE.with_(layers=3, tokens=STEPS * BATCH)
    found = {n: recipe_with(default(n), small).with_(tokens=STEPS * BATCH) for slot in SLOTS for n in named(slot)}
    for update in named("matrix_update"):
        for clip in named("clip_grad"):
            technique = parse(TIGHT) if clip == "clip_norm" else default(clip)
            found[f"{update} × {clip}"] = small.with_(default(update), technique)
    found["parallel_muon half × clip_norm"] = small.with_(parse("parallel_muon:half=true"), parse(TIGHT))
    return found


def watched(recipe: Recipe) -> dict[str, Any]:
    """Weights after every step, the optimisers' state after the first one, and what the training leaves."""
    seen: dict[str, Any] = {"weights": [], "state": {}}
    step = Optimizers.step

    def watching(self: Optimizers, multiplier: float, progress: float) -> None:
        step(self, multiplier, progress)
        parameters = [p for part in self.parts for p in _parameters(part)]
        seen["weights"].append([p.detach().clone() for p in parameters])
        seen["state"] = seen["state"] or {key: value.clone() for key, value in self.state().items()}

    Optimizers.step = watching  # type: ignore[method-assign]
    try:
        done = train(recipe, recipe.build("batches")(stream(), recipe.schedule.batch_tokens, recipe.seed))
    finally:
        Optimizers.step = step  # type: ignore[method-assign]
    return seen | {"last": done.weights, "averages": done.averages}


def _parameters(part: Any) -> list[Tensor]:
    if hasattr(part, "groups"):
        return [p for group in part.groups for p in group.parameters]
    return [p for optimizer, _ in part.optimizers for p in optimizer.param_groups[0]["params"]]


def without_a_gradient(kind: type = ShardedMuon) -> dict[str, Tensor]:
    """One step of a sharded optimiser over five matrices, of which one never had a gradient."""
    matrices = [nn.Parameter(torch.ones(4, 4) * (i + 1)) for i in range(5)]
    knobs: dict[str, Any] = {"lr": 0.1, "momentum": (0.9, 0.9, 0.0), "weight_decay": 0.5, "steps": 5}
    made = kind([(str(i), p) for i, p in enumerate(matrices)], half=False, **knobs)
    for p in matrices[:3] + matrices[4:]:
        p.grad = torch.eye(4)
    for progress in (0.0, 0.5):
        made.begin()
        made.step(1.0, progress)
    return {str(i): p.detach() for i, p in enumerate(matrices)} | made.state()


def work() -> dict[str, Any]:
    return {what: watched(recipe) for what, recipe in recipes().items()} | {"without": without_a_gradient()}


@pytest.fixture(scope="module")
def replicas(gloo_pair: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [done["replicas"] for done in gloo_pair]


@pytest.mark.parametrize("what", list(recipes()))
def test_all_replicas_hold_the_same_bits_after_every_step(replicas, what):
    ours, theirs = (replica[what] for replica in replicas)
    assert len(ours["weights"]) == STEPS
    for a, b in zip(ours["weights"], theirs["weights"], strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert all(torch.equal(ours["last"][n], theirs["last"][n]) for n in ours["last"])
    for key, average in ours["averages"].items():
        assert all(torch.equal(value, theirs["averages"][key][n]) for n, value in average.items())


@pytest.mark.parametrize("what", list(recipes()))
def test_two_processes_step_as_one(replicas, what):
    """The averaged and clipped gradients, as the first step leaves them in the optimisers, are those of one process.

    Both sum the same products in other orders, in float32. Each rounding is off by at most 2⁻²⁴ of what has been summed, to
    either side, so n of them make about √n·2⁻²⁴; an element is a sum over 64 positions of sums over at most 300 terms, which
    makes 8e-6 of a tensor's size, and twice that for a second moment, which squares. (Each process clipping by its own norm
    is off by 2e-4 here.) Momentum in bfloat16 is rounded to 2⁻⁸ besides.
    """
    bound = 2 * (64 * 300) ** 0.5 * 2.0**-24 + (2.0**-8 if "half" in what else 0.0)
    here, alone = replicas[0][what]["state"], watched(recipes()[what])["state"]
    assert set(here) == set(alone)
    for key, value in here.items():
        gap, size = (value - alone[key]).double().norm(), alone[key].double().norm()
        assert gap <= bound * size, f"{key}: {float(gap / size):.1e}"


def test_a_matrix_without_a_gradient_stays_as_on_one_process(replicas):
    alone = without_a_gradient()
    for replica in replicas:
        assert torch.equal(replica["without"]["3"], torch.ones(4, 4) * 4)
        assert all(torch.allclose(replica["without"][key], value, atol=1e-6) for key, value in alone.items())
