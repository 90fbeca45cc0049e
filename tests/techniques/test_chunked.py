import numpy as np

from golflab.model.technique import parse
from tests.scoring import SHAPE


def plan(knobs, inputs=100, begins=(0, 40)):
    return parse(f"chunked:{knobs}").build(SHAPE)(inputs, np.array(begins)).tolist()


def test_chunks_lie_side_by_side_and_the_tail_is_scored():
    assert plan("") == [[0, 32, 0], [32, 64, 32], [64, 96, 64], [96, 100, 96]]


def test_the_challenge_drops_the_tail():
    assert plan("tail=dropped") == [[0, 32, 0], [32, 64, 32], [64, 96, 64]]


def test_isolated_chunks_begin_anew_with_every_document():
    assert plan("isolated=true") == [[0, 32, 0], [32, 40, 32], [40, 72, 40], [72, 100, 72]]
