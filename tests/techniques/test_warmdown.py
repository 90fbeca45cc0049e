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
