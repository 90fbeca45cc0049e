import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golflab.model.compression.grid import SMALLEST_SCALE, Grid, grid_of, stored_scales
from golflab.model.compression.quantize import quantise, rounding_error
from golflab.model.recipe import Recipe
from golflab.model.technique import parse
from tests.matrices import dequantise, infos, weights

RECIPE = Recipe()


@pytest.mark.parametrize(("bits", "largest"), [(8, 127), (7, 63), (6, 31), (5, 15), (4, 7), (3, 3), (2, 1)])
def test_grid_is_symmetric_unless_extended(bits, largest):
    assert grid_of(bits) == Grid(largest, -largest)
    assert grid_of(bits, extended=True) == Grid(largest, -largest - 1)
    assert 2 ** grid_of(bits, extended=True).bits == pytest.approx(2**bits)


def test_sixteen_bits_means_no_grid():
    assert grid_of(16) is None


@pytest.mark.parametrize("bits", ["int8_rows", "int6_rows", "int5_rows", "int4_rows", "mixed_rows", "ternary_rows"])
@pytest.mark.parametrize("clip", ["row_max", "percentile:deep=true", "mse_clip", "sd_clip"])
def test_integers_stay_inside_their_grid_and_scales_are_positive(bits, clip):
    done = quantise(weights(infos()), infos(), RECIPE.with_(parse(bits), parse(clip)))
    for q in done.values():
        if q.grid is None:
            assert q.values.dtype == torch.float16
            continue
        assert q.values.dtype == torch.int8
        assert int(q.values.min()) >= q.grid.lowest
        assert int(q.values.max()) <= q.grid.largest
        assert float(q.scales.min()) > 0


def test_gains_keep_fp16_and_order_is_kept():
    done = quantise(weights(infos()), infos(), RECIPE)
    assert list(done) == [i.name for i in infos()]
    assert done["blocks.0.gain.weight"].grid is None
    assert torch.equal(dequantise(done)["blocks.0.gain.weight"], weights(infos())["blocks.0.gain.weight"].half().float())


def test_quantising_twice_changes_nothing():
    recipe = RECIPE.with_(parse("int6_rows"))
    once = dequantise(quantise(weights(infos()), infos(), recipe))
    twice = dequantise(quantise(once, infos(), recipe))
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_zero_rows_survive():
    w = weights(infos())
    w["blocks.0.up.weight"][3] = 0
    done = quantise(w, infos(), RECIPE.with_(parse("sd_clip")))["blocks.0.up.weight"]
    assert not done.values[3].any()
    assert float(done.scales[3]) == SMALLEST_SCALE


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda w: w.pop("blocks.0.up.weight"), "there is no tensor"),
        (lambda w: w.update({"blocks.0.up.weight": torch.zeros(3, 3)}), "has shape"),
        (lambda w: w["blocks.0.up.weight"].fill_(float("nan")), "NaN or infinity"),
        (lambda w: w["blocks.0.gain.weight"].fill_(1e6), "beyond fp16"),
    ],
)
def test_bad_weights_are_named(break_it, words):
    w = weights(infos())
    break_it(w)
    with pytest.raises(ValueError, match=words):
        quantise(w, infos(), RECIPE)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-9, 5e3), st.integers(0, 1000))
def test_error_is_at_most_half_a_step_without_clipping(size, seed):
    w = weights(infos(layers=1), seed=seed, size=size)
    for name, q in quantise(w, infos(layers=1), RECIPE).items():
        if q.grid is not None and size > 1e-3:
            gap = (q.dequantised() - w[name]).abs() / q.scales.float()[:, None]
            assert float(gap.max()) <= 0.5 + 127 * 2**-11  # the scale itself was rounded to fp16


def test_rounding_error_is_the_reconstruction_error():
    w, scales = torch.randn(5, 40), stored_scales(torch.full((5,), 0.1))
    slow = sum(
        (w[r, c] - max(-7, min(7, round(float(w[r, c] / scales[r])))) * scales[r]) ** 2 for r in range(5) for c in range(40)
    )
    assert float(rounding_error(w, scales, 7).sum()) == pytest.approx(float(slow), rel=1e-4)
