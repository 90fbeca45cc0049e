import numpy as np
import pytest

from golflab.model.technique import parse
from tests.planes import FORMS, SPOIL, error_or_right_shapes, planes

CODEC = parse("brotli_codec").build(None)


def test_planes_come_back_with_their_types():
    back = CODEC.decode(CODEC.encode(planes(), FORMS), FORMS)
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(planes(), back, strict=True))


@pytest.mark.parametrize("spoil", SPOIL)
def test_damage_is_refused_in_words(spoil):
    assert error_or_right_shapes(CODEC, spoil(CODEC.encode(planes(), FORMS)))


def test_more_effort_makes_smaller_payloads():
    sizes = [len(parse(f"brotli_codec:quality={n}").build(None).encode(planes(), FORMS)) for n in (1, 11)]
    assert sizes[1] <= sizes[0]
