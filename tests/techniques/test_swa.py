"""SWA against the mean of exactly the collected weights (checklist 13)."""

from __future__ import annotations

import pytest
import torch

from golflab.model.techniques.train.swa import SWA
from tests.contract_helpers import TINY


@pytest.mark.parametrize(("threshold", "every"), [(0.4, 0.0), (0.4, 0.05), (0.2, 0.01)])
def test_it_is_the_mean_of_what_was_collected(threshold, every):
    average, taken, last = SWA(threshold=threshold, every=every).build(TINY), [], -1.0
    average.start([torch.zeros(3)])
    for step in range(1, 101):
        w, progress = torch.randn(3), step / 100
        multiplier = 1 - progress
        average.update([w], step, progress, multiplier)
        if multiplier < threshold and (not taken or progress >= last + every):
            taken.append(w)
            last = progress
    assert average.count == len(taken) > 3
    assert torch.allclose(average.value()[0], torch.stack(taken).double().mean(0).float(), atol=1e-6)


def test_above_the_threshold_nothing_is_collected():
    average = SWA(threshold=0.2).build(TINY)
    average.start([torch.zeros(3)])
    average.update([torch.ones(3)], 1, 0.1, 0.9)
    assert average.value() is None
