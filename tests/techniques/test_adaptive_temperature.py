import math

import pytest
import torch

from golflab.model.technique import parse
from tests.scoring import SHAPE


def test_it_follows_the_formula_position_by_position():
    logits = 3 * torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    cooled = parse("adaptive_temperature:temperature=0.95").build(SHAPE)(logits)
    for row, out in zip(logits.double(), cooled, strict=True):
        p = row.softmax(-1)
        entropy = -sum(float(q) * math.log(float(q)) for q in p)
        tau = min(1.05, max(0.9, 1 - 0.05 * (1 - entropy / math.log(64))))
        assert out.tolist() == pytest.approx((row / tau).tolist(), rel=1e-5)


def test_sure_predictions_get_the_temperature_and_uniform_ones_are_left():
    cool = parse("adaptive_temperature:temperature=0.95").build(SHAPE)
    sure = torch.full((1, 64), -100.0)
    sure[0, 3] = 100.0
    assert cool(sure)[0].tolist() == pytest.approx((sure / 0.95)[0].tolist())
    assert cool(torch.zeros(1, 64)).abs().max() == 0
