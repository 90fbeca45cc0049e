import numpy as np
import pytest

from golflab.model.technique import parse
from tests.planes import FORMS, SPOIL, error_or_right_shapes, planes

CODEC = parse("rans_codec").build(None)


def test_planes_come_back_with_their_types():
    back = CODEC.decode(CODEC.encode(planes(), FORMS), FORMS)
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(planes(), back, strict=True))


@pytest.mark.parametrize("spoil", SPOIL)
def test_damage_is_refused_in_words(spoil):
    assert error_or_right_shapes(CODEC, spoil(CODEC.encode(planes(), FORMS)))


def test_is_smaller_than_zlib():
    assert len(CODEC.encode(planes(), FORMS)) < len(parse("zlib_codec").build(None).encode(planes(), FORMS))
