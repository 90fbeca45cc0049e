"""Warmdown at a few points of the run."""

from __future__ import annotations

import pytest

from golflab.model.techniques.train.warmdown import Warmdown
from tests.contract_helpers import TINY


@pytest.mark.parametrize(
    ("fraction", "progress", "multiplier"),
    [(0.5, 0.0, 1.0), (0.5, 0.5, 1.0), (0.5, 0.75, 0.5), (0.5, 1.0, 0.0), (1.0, 0.25, 0.75), (1.25, 0.0, 0.8), (0.2, 0.9, 0.5)],
)
def test_it_holds_then_falls_linearly_to_zero(fraction, progress, multiplier):
    assert Warmdown(fraction=fraction).build(TINY)(progress) == pytest.approx(multiplier)


@pytest.mark.parametrize(
    ("progress", "multiplier"), [(0.0, 1.0), (0.15, 1.0), (0.575, 0.5), (0.915, 0.1), (0.95, 0.1), (1.0, 0.1)]
)
def test_it_stays_at_its_floor(progress, multiplier):
    """#1855: the last 0.85 of the run, not below a tenth."""
    assert Warmdown(fraction=0.85, floor=0.1).build(TINY)(progress) == pytest.approx(multiplier)
