import torch

from golflab.model.compression.grid import Grid, ToRound
from golflab.model.technique import parse
from tests.matrices import LINEAR, matrix


def test_rounds_clamps_and_keeps_the_mask():
    w, scales = matrix(8, 30), torch.full((8,), 0.2)
    keep = w.abs() > 0.3
    q = parse("nearest").build(None)(ToRound(w, scales, Grid(7, -7), LINEAR, keep=keep))
    slow = [[max(-7, min(7, round(float(x) / 0.2))) if abs(float(x)) > 0.3 else 0 for x in row] for row in w]
    assert q.tolist() == slow
