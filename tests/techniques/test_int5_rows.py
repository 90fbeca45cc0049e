import pytest

from golflab.model.compression.grid import Grid
from golflab.model.technique import parse
from golflab.spaces.presets import preset
from tests.matrices import GAIN, LINEAR, TABLE


def grid(text, info):
    return parse(text).build(None)(info)


def test_matrices_have_15_levels_each_side_and_gains_none():
    assert grid("int5_rows", LINEAR) == Grid(15, -15)
    assert grid("int5_rows", GAIN) is None


@pytest.mark.parametrize(("bits", "expected"), [(16, None), (8, Grid(127, -127)), (6, Grid(31, -31)), (4, Grid(7, -7))])
def test_tables_have_their_own_width(bits, expected):
    assert grid(f"int5_rows:table={bits}", TABLE) == expected


def test_small_matrices_stay_float_on_request():
    assert grid(f"int5_rows:small={LINEAR.count}", LINEAR) is None
    assert grid(f"int5_rows:small={LINEAR.count - 1}", LINEAR) is not None


def test_the_size_that_stays_fp16_goes_with_the_body():
    full, small = preset("seed_849_as_published", "full"), preset("seed_849_as_published", "proxy")
    assert (full.tenant("bits").small, small.tenant("bits").small) == (65_536, 4_096)
