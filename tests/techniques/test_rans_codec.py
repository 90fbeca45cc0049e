from golflab.model.technique import parse
from tests.planes import FORMS, planes

CODEC = parse("rans_codec").build(None)


def test_is_smaller_than_zlib():
    assert len(CODEC.encode(planes(), FORMS)) < len(parse("zlib_codec").build(None).encode(planes(), FORMS))
