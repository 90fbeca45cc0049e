"""Similar rows: the order against a loop, and places that are no order."""

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


def test_similar_rows_are_neighbours_and_columns_run_through_them():
    dice = np.random.default_rng(0)
    kinds = dice.integers(-20, 21, (3, 30))
    integers = (kinds[np.arange(60) % 3] + dice.integers(-1, 2, (60, 30))).astype(np.int8)
    *_, laid = parse("similar_rows").build(None).spread(integers, Grid(31, -31))
    assert laid.shape == (30, 60)
    steps = np.abs(np.diff(laid.astype(int), axis=1)).mean()
    assert steps < 0.2 * np.abs(np.diff(integers.astype(int), axis=0)).mean()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_places_that_are_no_order_are_refused(layout):
    built = parse(layout).build(None)
    planes = built.spread(np.arange(12, dtype=np.int8).reshape(4, 3), Grid(31, -31))
    doubled = [planes[0], np.full_like(planes[1], 2), planes[2]]
    with pytest.raises(ValueError, match="no order"):
        built.gather(doubled, 4, 3, Grid(31, -31))
