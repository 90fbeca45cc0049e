import torch

from golflab.model.technique import parse
from tests.matrices import LINEAR


def test_a_row_is_stored_in_8_bits_a_weight():
    grid = parse("int8_rows").build(None)(LINEAR)
    levels = torch.arange(grid.lowest, grid.largest + 1)
    assert levels.tolist() == list(range(-127, 127 + 1))  # symmetric, so the lowest of the 2^8 integers is left out
    assert len(levels) == 2**8 - 1
