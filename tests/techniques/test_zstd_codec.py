import numpy as np
import pytest

from golflab.model.technique import parse
from tests.planes import FORMS, SPOIL, error_or_right_shapes, planes

CODEC = parse("zstd_codec").build(None)


def test_planes_come_back_with_their_types():
    back = CODEC.decode(CODEC.encode(planes(), FORMS), FORMS)
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(planes(), back, strict=True))


@pytest.mark.parametrize("spoil", SPOIL)
def test_damage_is_refused_in_words(spoil):
    assert error_or_right_shapes(CODEC, spoil(CODEC.encode(planes(), FORMS)))


def test_more_effort_makes_smaller_payloads():
    sizes = [len(parse(f"zstd_codec:level={n}").build(None).encode(planes(), FORMS)) for n in (1, 22)]
    assert sizes[1] <= sizes[0]


def test_the_shorter_of_two_streams_is_kept():
    """Around three bits a weight, where level 22 misjudges its blocks."""
    dice = np.random.default_rng(0)
    rows = np.clip(np.round(dice.normal(size=(512, 512)) * 1.875), -15, 15).astype(np.int8)
    plain, both = (len(parse(f"zstd_codec:both={b}").build(None).encode([rows], [])) for b in ("false", "true"))
    assert both < 0.97 * plain
