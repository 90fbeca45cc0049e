import numpy as np
import pytest

from golflab.model.compression.grid import Grid
from golflab.model.technique import parse

LAYOUT = parse("codebook_bytes").build(None)


def test_more_vectors_than_an_index_can_name_are_refused():
    integers = np.random.default_rng(0).integers(-1, 2, (100, 64)).astype(np.int8)
    with pytest.raises(ValueError, match="not the 256 an index can name"):
        LAYOUT.spread(integers, Grid(1, -1))
