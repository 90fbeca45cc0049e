import numpy as np
import pytest

from golflab.model.compression.grid import Grid
from golflab.model.technique import parse

LAYOUT = parse("codebook_bytes").build(None)


@pytest.mark.parametrize("grid", [Grid(127, -128), Grid(31, -31), Grid(1, -1)])
@pytest.mark.parametrize("shape", [(1, 7), (5, 1), (33, 48), (9, 50)])
def test_integers_come_back_in_the_planes_announced(grid, shape):
    integers = np.random.default_rng(0).integers(grid.lowest, grid.largest + 1, shape).astype(np.int8)
    integers = integers[:1].repeat(len(integers), axis=0)
    planes = LAYOUT.spread(integers, grid)
    forms = LAYOUT.planes(*shape, grid)
    assert [(p.shape, p.dtype) for p in planes] == [((f.rows, f.columns), np.dtype(f.dtype)) for f in forms]
    back = LAYOUT.gather(planes, *shape, grid)
    assert back.dtype == np.int8
    assert np.array_equal(back, integers)


@pytest.mark.parametrize("count", [0, 1, 77])
def test_floats_come_back_bit_by_bit(count):
    numbers = np.random.default_rng(0).normal(size=count).astype(np.float16)
    planes = LAYOUT.spread_floats(numbers)
    assert [p.shape for p in planes] == [(f.rows, f.columns) for f in LAYOUT.float_planes(count)]
    assert np.array_equal(LAYOUT.gather_floats(planes, count).view(np.uint16), numbers.view(np.uint16))


def test_an_integer_off_the_grid_is_refused():
    planes = LAYOUT.spread(np.full((16, 16), 40, dtype=np.int8), Grid(127, -127))
    with pytest.raises(ValueError, match="outside its grid"):
        LAYOUT.gather(planes, 16, 16, Grid(31, -31))


def test_more_vectors_than_an_index_can_name_are_refused():
    integers = np.random.default_rng(0).integers(-1, 2, (100, 64)).astype(np.int8)
    with pytest.raises(ValueError, match="not the 256 an index can name"):
        LAYOUT.spread(integers, Grid(1, -1))
