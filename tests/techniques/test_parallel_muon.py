"""Parallel Muon on two gloo processes against plain Muon on one and on two."""

from __future__ import annotations

import pytest
import torch

from model.technique import parse
from tests.contract_helpers import BASE, trained
from tests.processes import together

RATES = "lr=0.01,weight_decay=0.1"
RECIPES = [
    BASE.with_(parse(text), layers=3, seconds=None)
    for text in (f"muon:{RATES}", f"parallel_muon:{RATES}", f"parallel_muon:{RATES},half=true")
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """By process, then by recipe."""
    return together(RECIPES, tmp_path_factory.mktemp("gloo"))


def gap(a, b, start):
    """Distance between two sets of weights over the distance either has moved."""
    moved = sum((a[n] - start[n]).square().sum() for n in a)
    return float((sum((a[n] - b[n]).square().sum() for n in a) / moved).sqrt())


def test_all_processes_hold_the_same_weights(runs):
    for ours, theirs in zip(*runs, strict=True):
        assert all(torch.equal(ours[0][n], theirs[0][n]) for n in ours[0])


def test_two_processes_train_as_one(runs):
    """The same loop on N processes: the same losses and weights to rounding (bfloat16 in Newton–Schulz)."""
    for index, recipe in enumerate(RECIPES[:2]):
        alone, start = trained(recipe), trained(recipe.with_(parse("muon:lr=0.002"))).weights
        weights, losses = runs[0][index]
        assert losses == pytest.approx([p["loss"] for p in alone.curve], abs=2e-3)
        assert gap(weights, alone.weights, start) < 0.05


def test_sharding_changes_nothing_but_rounding(runs):
    plain, sharded = runs[0][0][0], runs[0][1][0]
    start = trained(RECIPES[0].with_(parse("muon:lr=0.002"))).weights
    assert gap(sharded, plain, start) < 0.05


def test_half_precision_momentum_acts_and_stays_near(runs):
    start = trained(RECIPES[0].with_(parse("muon:lr=0.002"))).weights
    assert 0 < gap(runs[0][2][0], runs[0][1][0], start) < 0.1


def test_on_one_process_it_is_muon():
    a, b = trained(RECIPES[0]).weights, trained(RECIPES[1]).weights
    assert all(torch.equal(a[n], b[n]) for n in a)
