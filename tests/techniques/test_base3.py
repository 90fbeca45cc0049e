import numpy as np
import pytest

from golflab.model.compression.grid import Grid
from golflab.model.technique import parse

LAYOUT = parse("base3").build(None)


def test_five_trits_fill_a_byte():
    (plane,) = LAYOUT.spread(np.array([[1, 1, 1, 1, 1, -1, 0, 0]], dtype=np.int8), Grid(1, -1))
    assert plane.tolist() == [[242, 0 + 3 + 9 + 27 + 81]]
    for bad, words in ((np.array([[243, 121]]), "above 242"), (np.array([[0, 242]]), "padding")):
        with pytest.raises(ValueError, match=words):
            LAYOUT.gather([bad.astype(np.uint8)], 1, 8, Grid(1, -1))
