"""What every technique in the slot ``codec`` must do: planes come back with their types, and damage is refused in words."""

from __future__ import annotations

import numpy as np
import pytest

from golflab.model.technique import catalogue, parse
from tests.planes import FORMS, SPOIL, error_or_right_shapes, planes

CODECS = [name for name, technique in catalogue().items() if technique.slot == "codec"]
every = pytest.mark.parametrize("codec", [pytest.param(parse(name).build(None), id=name) for name in CODECS])
EFFORT = {"zlib_codec": ("level", 1, 9), "zstd_codec": ("level", 1, 22), "lzma_codec": ("preset", 0, 9)}
EFFORT |= {"brotli_codec": ("quality", 1, 11)}


@every
def test_planes_come_back_with_their_types(codec):
    back = codec.decode(codec.encode(planes(), FORMS), FORMS)
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(planes(), back, strict=True))


@every
@pytest.mark.parametrize("spoil", SPOIL)
def test_damage_is_refused_in_words(codec, spoil):
    assert error_or_right_shapes(codec, spoil(codec.encode(planes(), FORMS)))


@pytest.mark.parametrize("name", EFFORT)
def test_more_effort_makes_smaller_payloads(name):
    knob, least, most = EFFORT[name]
    little, much = (len(parse(f"{name}:{knob}={effort}").build(None).encode(planes(), FORMS)) for effort in (least, most))
    assert much <= little
