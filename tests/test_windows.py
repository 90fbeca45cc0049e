"""Windows score every input once, with the context they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golflab.model.evaluation.windows import alike, lay, rounds, slide

lengths = st.integers(1, 40)


@given(st.integers(1, 300), lengths, lengths, st.lists(st.integers(0, 299)), st.booleans())
def test_every_input_is_scored_exactly_once_and_in_order(inputs, length, stride, begins, isolated):
    plan = lay(inputs, np.unique(begins).astype(int), max(length, stride), min(length, stride), isolated)
    scored = np.concatenate([np.arange(first, end) for _, end, first in plan])
    assert scored.tolist() == list(range(inputs))
    assert ((plan[:, 0] <= plan[:, 2]) & (plan[:, 2] < plan[:, 1])).all()
    assert (plan[:, 1] - plan[:, 0] <= max(length, stride)).all()


@given(st.integers(1, 300), st.integers(1, 40))
def test_a_stride_of_the_length_is_chunks(inputs, length):
    plan = slide(0, inputs, length, length)
    assert plan[:, 0].tolist() == plan[:, 2].tolist() == list(range(0, inputs, length))


@given(st.integers(2, 300), st.integers(2, 40), st.data())
def test_all_but_the_first_windows_have_nearly_full_context(inputs, length, data):
    stride = data.draw(st.integers(1, length))
    for begin, _, first in slide(0, inputs, length, stride)[1:]:
        assert first - begin == length - stride


@given(st.lists(st.integers(1, 99), min_size=1))
def test_isolated_windows_never_look_across_bos(begins):
    edges = np.unique([0, *begins])
    for begin, _, first in lay(100, edges, 16, 4, isolated=True):
        assert begin >= edges[edges <= first].max()


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 500))
def test_batches_hold_every_window_once_and_are_of_one_shape(inputs, stride, tokens):
    plan = lay(inputs, np.array([0, 30, 31, 77]), 40, min(stride, 40), isolated=True)
    seen = []
    for batch, length in alike(plan, tokens):
        assert len(set((batch[:, 2] - batch[:, 0]).tolist())) == 1
        assert (batch[:, 1] - batch[:, 0] <= length).all()
        assert len(batch) == 1 or len(batch) * length <= tokens
        seen += batch.tolist()
    assert sorted(seen) == sorted(plan.tolist())


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_rounds_keep_the_order(chunk):
    plan = slide(0, 333, 20, 5)
    parts = rounds(plan, chunk)
    assert np.concatenate(parts).tolist() == plan.tolist()
    assert all(len(set((part[:, 2] // chunk).tolist())) == 1 for part in parts)


def test_no_inputs_no_windows():
    assert lay(0, np.array([0]), 16, 16, isolated=False).shape == (0, 3)
