import numpy as np

from golflab.model.compression.grid import Grid
from golflab.model.technique import parse

LAYOUT = parse("shared_row").build(None)


def test_rows_that_are_alike_shrink_to_their_differences_and_others_stay():
    dice = np.random.default_rng(0)
    integers = np.clip(np.round(dice.normal(0, 30, (64, 48))), -127, 127).astype(np.int8)
    integers[10:40] = np.clip(integers[10] + np.round(dice.normal(0, 2, (30, 48))), -127, 127)
    mask, plane = LAYOUT.spread(integers, Grid(127, -127))
    assert np.unpackbits(mask.ravel())[:64].tolist() == [0] * 10 + [1] * 30 + [0] * 24
    assert np.abs(plane[11:41].astype(int)).mean() < 3
    assert np.array_equal(plane[42:], integers[41:])
