import numpy as np

from golflab.model.technique import parse

LAYOUT = parse("byte_shuffle").build(None)


def test_high_bytes_come_first():
    high, low = LAYOUT.spread_floats(np.array([1.0, 2.0], dtype=np.float16))
    assert high.ravel().tolist() == [0x3C, 0x40]
    assert low.ravel().tolist() == [0, 0]
