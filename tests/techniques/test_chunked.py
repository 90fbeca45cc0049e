import numpy as np
import pytest

from golflab.model.shape import Shape
from golflab.model.technique import parse
from tests.scoring import RECIPE, SHAPE, documents, evaluator, nats_one_by_one


def plan(knobs, inputs=100, begins=(0, 40)):
    return parse(f"chunked:{knobs}").build(SHAPE)(inputs, np.array(begins)).tolist()


def test_chunks_lie_side_by_side_and_the_tail_is_scored():
    assert plan("") == [[0, 32, 0], [32, 64, 32], [64, 96, 64], [96, 100, 96]]


def test_the_challenge_drops_the_tail():
    assert plan("tail=dropped") == [[0, 32, 0], [32, 64, 32], [64, 96, 64]]


def test_isolated_chunks_begin_anew_with_every_document():
    assert plan("isolated=true") == [[0, 32, 0], [32, 40, 32], [40, 72, 40], [72, 100, 72]]


def test_the_evaluation_may_read_more_than_the_training():
    assert plan("context=64") == [[0, 64, 0], [64, 100, 64]]
    assert plan("context=64,tail=dropped,isolated=true") == [[0, 40, 0], [40, 64, 40]]


@pytest.mark.parametrize("technique", ["chunked:context=80", "sliding_window:context=80,stride=16", "chunked:context=20"])
def test_other_contexts_score_what_their_windows_do_one_by_one(technique):
    """Beyond the training's context, positions are rotated on: the tables grow."""
    run, text = evaluator(technique), np.concatenate(documents(3))
    windows = run.plan(len(text) - 1, np.flatnonzero(text == 1))
    assert (windows[:, 1] - windows[:, 0]).max() == int(technique.partition("context=")[2].partition(",")[0])
    assert np.abs(run.score(text) - nats_one_by_one(run.model, text, windows)).max() < 2e-5


def test_the_context_of_the_training_is_the_default_and_scales_with_it():
    assert RECIPE.with_(parse("chunked:context=32")) == RECIPE
    assert parse("chunked:context=3072").rescale(Shape(context=2048), SHAPE).context == 48
