import pytest
import torch

from golflab.model.compression.entropy import mse_reach
from golflab.model.compression.quantize import rounding_error
from golflab.model.technique import parse
from tests.matrices import LINEAR, matrix


def test_finds_the_step_a_fine_search_finds():
    w = matrix(6, 400)
    found = rounding_error(w, parse("mse_clip:steps=60").build(None)(w, 7, LINEAR), 7)
    full = w.abs().amax(1) / 7
    fine = torch.stack([rounding_error(w, full * f, 7) for f in torch.linspace(0.3, 1, 400).tolist()]).amin(0)
    assert (found <= fine * 1.02).all()


@pytest.mark.parametrize("largest", [7, 15])
def test_clips_gaussian_rows_where_theory_says(largest):
    w = matrix(64, 4096)
    reach = float((parse("mse_clip").build(None)(w, largest, LINEAR) * largest / w.std(1)).mean())
    assert reach == pytest.approx(mse_reach(largest), rel=0.06)


def test_zero_rows_are_safe():
    assert torch.isfinite(parse("mse_clip").build(None)(torch.zeros(3, 8), 7, LINEAR)).all()
