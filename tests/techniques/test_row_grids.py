"""What the techniques of one width for all matrices (``int4_rows`` to ``int8_rows``) must do."""

from __future__ import annotations

import pytest

from golflab.model.compression.grid import Grid
from golflab.model.technique import parse
from tests.matrices import GAIN, LINEAR, TABLE

LEVELS = {"int4_rows": 7, "int5_rows": 15, "int6_rows": 31, "int8_rows": 127}
every = pytest.mark.parametrize("name", LEVELS)


def grid(text, info):
    return parse(text).build(None)(info)


@every
def test_matrices_have_their_levels_each_side_and_gains_none(name):
    assert grid(name, LINEAR) == Grid(LEVELS[name], -LEVELS[name])
    assert grid(name, GAIN) is None


@every
@pytest.mark.parametrize(("bits", "expected"), [(16, None), (8, Grid(127, -127)), (6, Grid(31, -31)), (4, Grid(7, -7))])
def test_tables_have_their_own_width(name, bits, expected):
    assert grid(f"{name}:table={bits}", TABLE) == expected


@every
def test_small_matrices_stay_float_on_request(name):
    assert grid(f"{name}:small={LINEAR.count}", LINEAR) is None
    assert grid(f"{name}:small={LINEAR.count - 1}", LINEAR) is not None
