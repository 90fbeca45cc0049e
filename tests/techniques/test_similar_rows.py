"""Similar rows: the order against a loop, and planes there and back."""

from __future__ import annotations

import numpy as np
import pytest

from golflab.model.compression.grid import Grid
from golflab.model.technique import parse
from golflab.model.techniques.pack.similar_rows import by_likeness

LAYOUTS = ("similar_rows", "similar_rows:transpose=false")


def test_the_order_is_the_greedy_one():
    rows = np.random.default_rng(0).integers(-127, 128, (40, 7)).astype(np.int8)
    rows[11] = rows[5]
    order, left = [0], set(range(1, 40))
    while left:
        last = [int(x) for x in rows[order[-1]]]
        order.append(min(left, key=lambda r: (sum(abs(int(x) - y) for x, y in zip(rows[r], last, strict=True)), r)))
        left.remove(order[-1])
    assert by_likeness(rows).tolist() == order


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("grid", [Grid(127, -128), Grid(31, -31), Grid(1, -2)])
@pytest.mark.parametrize("shape", [(0, 7), (1, 5), (33, 48), (300, 5)])
def test_integers_come_back_in_the_planes_announced(layout, grid, shape):
    built = parse(layout).build(None)
    integers = np.random.default_rng(0).integers(grid.lowest, grid.largest + 1, shape).astype(np.int8)
    planes = built.spread(integers, grid)
    forms = built.planes(*shape, grid)
    assert [(p.shape, p.dtype) for p in planes] == [((f.rows, f.columns), np.dtype(f.dtype)) for f in forms]
    back = built.gather(planes, *shape, grid)
    assert back.dtype == np.int8
    assert np.array_equal(back, integers)


def test_similar_rows_are_neighbours_and_columns_run_through_them():
    dice = np.random.default_rng(0)
    kinds = dice.integers(-20, 21, (3, 30))
    integers = (kinds[np.arange(60) % 3] + dice.integers(-1, 2, (60, 30))).astype(np.int8)
    *_, laid = parse("similar_rows").build(None).spread(integers, Grid(31, -31))
    assert laid.shape == (30, 60)
    steps = np.abs(np.diff(laid.astype(int), axis=1)).mean()
    assert steps < 0.2 * np.abs(np.diff(integers.astype(int), axis=0)).mean()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_places_that_are_no_order_and_integers_off_the_grid_are_refused(layout):
    built = parse(layout).build(None)
    planes = built.spread(np.arange(12, dtype=np.int8).reshape(4, 3), Grid(31, -31))
    doubled = [planes[0], np.full_like(planes[1], 2), planes[2]]
    with pytest.raises(ValueError, match="no order"):
        built.gather(doubled, 4, 3, Grid(31, -31))
    with pytest.raises(ValueError, match="outside its grid"):
        built.gather(planes, 4, 3, Grid(7, -7))
