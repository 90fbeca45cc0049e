import numpy as np

from golflab.model.compression.grid import Grid
from golflab.model.technique import parse


def test_integers_and_floats_are_bytes_as_they_lie_in_memory():
    layout = parse("row_bytes").build(None)
    integers, floats = np.arange(-6, 6, dtype=np.int8).reshape(3, 4), np.array([1.0, -2.5], dtype=np.float16)
    assert [plane.tobytes() for plane in layout.spread(integers, Grid(127, -127))] == [integers.tobytes()]
    assert [plane.tobytes() for plane in layout.spread_floats(floats)] == [floats.tobytes()]
