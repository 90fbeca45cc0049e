"""EMA against the explicit weighted mean, biased and corrected (checklist 12)."""

from __future__ import annotations

import pytest
import torch

from golflab.model.techniques.train.ema import EMA
from tests.contract_helpers import TINY


def averaged(technique, weights, initial, steps=None):
    average = technique.build(TINY)
    average.start([initial])
    for step, w in enumerate(weights, 1):
        average.update([w], step, step / (steps or len(weights)), 1.0)
    return average.value()[0], average


def test_the_corrected_average_is_the_weighted_mean():
    weights = [torch.randn(4) for _ in range(40)]
    beta = 1 - 1 / (0.25 * 40)
    shares = [beta ** (39 - i) for i in range(40)]
    expected = sum(s * w.double() for s, w in zip(shares, weights, strict=True)) / sum(shares)
    got, _ = averaged(EMA(horizon=0.25), weights, torch.full((4,), 100.0))
    assert torch.allclose(got.double(), expected, atol=1e-5)


def test_as_published_the_initial_weights_keep_their_share():
    initial, weights = torch.full((4,), 100.0), [torch.zeros(4)] * 50
    got, _ = averaged(EMA(decay=0.97, correct=False), weights, initial)
    assert got[0].item() == pytest.approx(100 * 0.97**50, rel=1e-4)


@pytest.mark.parametrize("correct", [True, False])
def test_identical_weights_average_to_themselves(correct):
    w = torch.randn(4)
    got, _ = averaged(EMA(correct=correct), [w] * 30, w)
    assert torch.allclose(got, w, atol=1e-6)


def test_state_is_float32_and_nothing_is_returned_before_the_first_update():
    average = EMA().build(TINY)
    average.start([torch.ones(3, dtype=torch.bfloat16)])
    assert average.sums[0].dtype == torch.float32
    assert average.value() is None


def test_small_increments_survive():
    """In bfloat16 they vanish: the published bug (#2095)."""
    weights = [torch.full((1,), 1.0 + i * 1e-4) for i in range(100)]
    got, _ = averaged(EMA(decay=0.99), weights, weights[0])
    shares = [0.99 ** (99 - i) for i in range(100)]
    assert got.item() == pytest.approx(sum(s * w.item() for s, w in zip(shares, weights, strict=True)) / sum(shares), abs=1e-5)
