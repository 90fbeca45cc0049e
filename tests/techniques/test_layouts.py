"""What every technique in the slot ``layout`` must do: what it laid out comes back exactly, from the planes it announced."""

from __future__ import annotations

import numpy as np
import pytest

from golflab.model.compression.grid import Grid
from golflab.model.technique import catalogue, parse

LAYOUTS = [name for name, technique in catalogue().items() if technique.slot == "layout"] + ["similar_rows:transpose=false"]
every = pytest.mark.parametrize("layout", [pytest.param(parse(name).build(None), id=name) for name in LAYOUTS])


@every
@pytest.mark.parametrize("alike", [False, True], ids=["different", "alike"])
@pytest.mark.parametrize("grid", [Grid(127, -128), Grid(31, -31), Grid(1, -2), Grid(1, -1)])
@pytest.mark.parametrize("shape", [(0, 7), (1, 5), (33, 48), (300, 5)])
def test_integers_come_back_in_the_planes_announced(layout, shape, grid, alike):
    integers = np.random.default_rng(0).integers(grid.lowest, grid.largest + 1, shape).astype(np.int8)
    if alike:  # half of the rows are one row
        integers[: len(integers) // 2] = integers[:1]
    planes = layout.spread(integers, grid)
    forms = layout.planes(*shape, grid)
    assert [(p.shape, p.dtype) for p in planes] == [((f.rows, f.columns), np.dtype(f.dtype)) for f in forms]
    back = layout.gather(planes, *shape, grid)
    assert back.dtype == np.int8
    assert np.array_equal(back, integers)


@every
@pytest.mark.parametrize("count", [0, 1, 77])
def test_floats_come_back_bit_by_bit(layout, count):
    numbers = np.random.default_rng(0).normal(size=count).astype(np.float16)
    planes = layout.spread_floats(numbers)
    assert [p.shape for p in planes] == [(f.rows, f.columns) for f in layout.float_planes(count)]
    assert np.array_equal(layout.gather_floats(planes, count).view(np.uint16), numbers.view(np.uint16))


@every
def test_an_integer_off_the_grid_is_refused(layout):
    planes = layout.spread(np.full((16, 16), 40, dtype=np.int8), Grid(127, -127))
    with pytest.raises(ValueError, match="outside its grid"):
        layout.gather(planes, 16, 16, Grid(31, -31))
