import zlib

from golflab.model.technique import parse
from tests.planes import FORMS, planes


def test_the_payload_is_a_zlib_stream_of_the_planes_one_behind_the_other():
    payload = parse("zlib_codec:level=9").build(None).encode(planes(), FORMS)
    assert zlib.decompress(payload) == b"".join(plane.tobytes() for plane in planes())
