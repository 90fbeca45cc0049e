import torch

from golflab.model.technique import parse
from tests.matrices import LINEAR, TABLE, matrix


def test_step_is_the_same_share_of_every_rows_deviation():
    w = matrix(32, 200, spread=0.5)
    scales = parse("sd_clip:k=10").build(None)(w, 31, LINEAR)
    torch.testing.assert_close(scales / w.std(1, correction=0), torch.full((32,), 10 / 31))


def test_tables_have_a_k_of_their_own():
    build = parse("sd_clip:k=10,table=20").build(None)
    w = matrix(8, 64)
    torch.testing.assert_close(build(w, 127, TABLE), 2 * build(w, 127, LINEAR))
