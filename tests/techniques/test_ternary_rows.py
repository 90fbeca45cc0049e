import pytest
import torch

from golflab.model.compression.grid import Grid
from golflab.model.compression.quantize import quantise
from golflab.model.recipe import Recipe
from golflab.model.technique import parse
from tests.matrices import LINEAR, TABLE, matrix


def test_only_the_mlp_is_ternary_by_default():
    build = parse("ternary_rows").build(None)
    assert build(LINEAR) == Grid(1, -1)
    assert build(TABLE) is None


def test_scale_is_the_mean_magnitude_and_zeros_are_as_many_as_published():
    w = {"w": matrix(64, 96)}
    q = quantise(w, [LINEAR], Recipe().with_(parse("ternary_rows"), parse("sd_clip")))["w"]
    torch.testing.assert_close(q.scales.float(), w["w"].abs().mean(1), rtol=1e-3, atol=0)
    assert float((q.values == 0).float().mean()) == pytest.approx(0.31, abs=0.02)
    assert float((q.dequantised() - w["w"]).square().sum() / w["w"].square().sum()) == pytest.approx(0.263, abs=0.02)


def test_what_was_trained_ternary_is_stored_exactly():
    trits = torch.randint(-1, 2, (64, 96), generator=torch.Generator().manual_seed(0)).float()
    trits[:, 0] = 1
    w = trits / trits.abs().mean(1, keepdim=True)  # mean |w| is 1, so the scale is
    q = quantise({"w": w}, [LINEAR], Recipe().with_(parse("ternary_rows")))["w"]
    assert torch.equal(q.values.float(), trits)
