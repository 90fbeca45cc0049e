"""relu² by hand."""

from __future__ import annotations

import torch

from golflab.model.techniques.model.relu_squared import ReluSquared
from tests.contract_helpers import TINY


def test_it_squares_what_is_positive():
    assert ReluSquared().build(TINY)(torch.tensor([-2.0, 0.0, 3.0])).tolist() == [0.0, 0.0, 9.0]
