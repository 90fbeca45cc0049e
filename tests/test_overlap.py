"""Overlap of held-out and training text, against a search that looks everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golflab.model.data import overlap as module
from golflab.model.data.overlap import overlap, rolling, share_in_words, text_array, worst

DOCUMENTS = st.lists(st.lists(st.integers(0, 1), max_size=40).map(lambda v: np.array(v, dtype=np.uint16)), max_size=5)


def slow(train, held_out, window):
    """Documents and windows of the held-out part that the training documents hold."""
    everywhere = {tuple(d[i : i + window]) for d in train for i in range(len(d) - window + 1)}
    windows = [tuple(d[i : i + window]) for d in held_out for i in range(0, len(d) - window + 1, window)]
    whole = {tuple(d) for d in train if len(d)}
    return sum(tuple(d) in whole for d in held_out), len(windows), sum(w in everywhere for w in windows)


@settings(deadline=None, max_examples=60)
@given(DOCUMENTS, DOCUMENTS, st.integers(1, 9), st.integers(3, 50))
def test_it_finds_what_a_search_everywhere_finds(train, held_out, window, stretch):
    usual, module.STRETCH = module.STRETCH, stretch
    try:
        found = overlap(train, {"dev": held_out}, window)
    finally:
        module.STRETCH = usual
    told = found["splits"]["dev"]
    assert (told["documents_in_train"], told["windows"], told["windows_in_train"]) == slow(train, held_out, window)
    texts = [tuple(d) for d in train if len(d)]
    assert found["train"] == {"documents": len(texts), "duplicates": len(texts) - len(set(texts))}


@pytest.mark.parametrize("window", [1, 2, 63, 64, 65, 200])
def test_equal_windows_have_equal_hashes_and_others_do_not(window):
    values = np.random.default_rng(0).integers(0, 65536, 500).astype(np.uint16)
    twice = rolling(np.concatenate([values, values]), window)
    assert len(twice) == 1001 - window
    assert (twice[: 501 - window] == twice[500:]).all()
    assert len(np.unique(rolling(values, window))) == 501 - window or window == 1


def test_a_shifted_copy_inside_another_document_is_found():
    words = [f"word{i}" for i in range(3000)]
    train = "Something else before. " + " ".join(words[:2000]) + "\n\nand behind"
    found = overlap([text_array(train)], {"dev": [text_array(" ".join(words).upper())]}, 200)
    told = found["splits"]["dev"]
    assert told["documents_in_train"] == 0
    assert told["windows_in_train"] / told["windows"] == pytest.approx(2 / 3, abs=0.02)
    assert worst(found) == (told["windows_in_train"] / told["windows"], "dev")
    assert share_in_words(found, "dev").startswith("0 of 1 documents (0.00%) and ")


def test_case_and_white_space_hide_no_copy():
    assert (text_array("The  same\n text ") == text_array("the same TEXT")).all()
