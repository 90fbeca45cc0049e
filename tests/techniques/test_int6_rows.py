import pytest

from golflab.model.compression.grid import Grid
from golflab.model.technique import parse
from tests.matrices import GAIN, LINEAR, TABLE


def grid(text, info):
    return parse(text).build(None)(info)


def test_matrices_have_31_levels_each_side_and_gains_none():
    assert grid("int6_rows", LINEAR) == Grid(31, -31)
    assert grid("int6_rows", GAIN) is None


@pytest.mark.parametrize(("bits", "expected"), [(16, None), (8, Grid(127, -127)), (6, Grid(31, -31)), (4, Grid(7, -7))])
def test_tables_have_their_own_width(bits, expected):
    assert grid(f"int6_rows:table={bits}", TABLE) == expected


def test_small_matrices_stay_float_on_request():
    assert grid(f"int6_rows:small={LINEAR.count}", LINEAR) is None
    assert grid(f"int6_rows:small={LINEAR.count - 1}", LINEAR) is not None
