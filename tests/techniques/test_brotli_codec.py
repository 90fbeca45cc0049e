import brotli

from golflab.model.technique import parse
from tests.planes import FORMS, planes


def test_the_payload_is_a_brotli_stream_of_the_planes_one_behind_the_other():
    payload = parse("brotli_codec").build(None).encode(planes(), FORMS)
    assert brotli.decompress(payload) == b"".join(plane.tobytes() for plane in planes())
