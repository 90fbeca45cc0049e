"""Verbatim text: what is decoded is what was encoded, and its bytes are all counted; plain text loses some."""

import numpy as np
import pytest

from golflab.model.data.tokenizer import tokenizer_of, train_tokenizer
from golflab.model.shape import Shape
from golflab.model.techniques.data.verbatim import Verbatim

TEXTS = ["One line.\nAnd  two   blanks, ½ a ﬁsh.", "  leading, trailing  ", "Ünïcödé \u00a0 and \u200b nothing."]
REWRITING = Verbatim().build(Shape())


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_of(REWRITING.train([text * 20 for text in TEXTS], 340), REWRITING)


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_is_normalised_and_every_byte_is_counted(tokenizer, text):
    ids = np.asarray(tokenizer.encode(text))
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_bytes(ids[1:], ids[:-1]).sum() == len(text.encode())


def test_plain_text_is_normalised():
    plain = tokenizer_of(train_tokenizer([text * 20 for text in TEXTS], 340))
    assert plain.decode(np.asarray(plain.encode(TEXTS[0]))) != TEXTS[0]
