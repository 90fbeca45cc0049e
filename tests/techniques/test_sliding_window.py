import dataclasses

import numpy as np
import pytest

from golflab.model.shape import Shape
from golflab.model.technique import parse
from tests.scoring import RECIPE, SHAPE


def plan(knobs, inputs, begins=(0,)):
    return parse(f"sliding_window:{knobs}").build(SHAPE)(inputs, np.array(begins)).tolist()


def test_only_the_first_window_scores_everything_it_reads():
    assert plan("stride=16", 70) == [[0, 32, 0], [16, 48, 32], [32, 64, 48], [48, 70, 64]]


def test_a_window_is_kept_only_if_it_scores_something_new():
    assert plan("stride=16", 64)[-1] == [32, 64, 48]
    assert plan("stride=16", 65)[-1] == [48, 65, 64]


def test_isolated_windows_begin_anew_with_every_document():
    assert plan("stride=16,isolated=true", 80, (0, 40)) == [[0, 32, 0], [16, 40, 32], [40, 72, 40], [56, 80, 72]]


def test_a_stride_beyond_the_context_is_refused():
    with pytest.raises(ValueError, match="stride=64 is longer than context=32"):
        RECIPE.with_(parse("sliding_window")).check()


@pytest.mark.parametrize(("context", "stride"), [(256, 64), (128, 32), (2048, 64), (2, 1)])
def test_a_proxy_keeps_something_to_gain(context, stride):
    new = dataclasses.replace(SHAPE, context=context)
    assert parse("sliding_window").rescale(Shape(), new).stride == stride


def test_the_evaluation_may_read_more_than_the_training():
    assert plan("stride=16,context=64", 90) == [[0, 64, 0], [16, 80, 64], [32, 90, 80]]
    assert plan("stride=48,context=64", 110) == [[0, 64, 0], [48, 110, 64]], (
        "a stride may be longer than the training's context"
    )
    assert RECIPE.with_(parse("sliding_window:stride=16,context=32")) == RECIPE.with_(parse("sliding_window:stride=16"))
    with pytest.raises(ValueError, match="stride=64 is longer than context=48"):
        RECIPE.with_(parse("sliding_window:context=48")).check()
    assert RECIPE.with_(parse("sliding_window:context=64")).check()
    assert parse("sliding_window:context=3072").rescale(Shape(context=2048), SHAPE).context == 48
