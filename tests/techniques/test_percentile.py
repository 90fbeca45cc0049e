import torch

from golflab.model.compression.quantize import largest_quantiles, rounding_error
from golflab.model.technique import parse
from tests.matrices import LINEAR, matrix


def scales(text, w, largest=15):
    return parse(text).build(None)(w, largest, LINEAR)


def test_quantiles_are_those_of_the_whole_row():
    rows, points = matrix(16, 300).abs(), (0.98, 0.9995, 1.0)
    for p, found in zip(points, largest_quantiles(rows, points), strict=True):
        torch.testing.assert_close(found, torch.quantile(rows, p, dim=1), atol=1e-5, rtol=1e-5)


def test_never_loses_more_than_the_row_maximum():
    w = matrix(32, 512)
    w[:, 0] *= 4  # outliers, so that clipping pays
    full = rounding_error(w, scales("row_max", w), 15)
    searched = rounding_error(w, scales("percentile", w), 15)
    deep = rounding_error(w, scales("percentile:deep=true", w), 15)
    assert (searched <= full * 1.0001).all()
    assert (deep <= searched * 1.0001).all()
    assert float(deep.sum()) < 0.9 * float(full.sum())


def test_per_matrix_takes_one_quantile_for_all_rows():
    w = matrix(8, 300)
    chosen = scales("percentile:per=matrix", w) * 15
    quantiles = torch.stack([torch.quantile(w.abs(), p, dim=1) for p in (0.999, 0.9995, 0.9999, 0.99999, 1.0)])
    assert any(torch.allclose(chosen, q) for q in quantiles)


def test_floor_is_the_published_one():
    assert torch.equal(scales("percentile:floor=true", 0.01 * matrix(4, 50)), torch.full((4,), 1 / 15))
