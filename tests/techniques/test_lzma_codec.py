import lzma

from golflab.model.technique import parse
from tests.planes import FORMS, planes


def test_the_payload_is_a_raw_lzma2_stream_of_the_planes_one_behind_the_other():
    """Raw, and without contexts: weights are no text, and a container's header would cost bytes."""
    payload = parse("lzma_codec").build(None).encode(planes(), FORMS)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0, "dict_size": 1 << 25}]
    assert lzma.decompress(payload, lzma.FORMAT_RAW, filters=filters) == b"".join(plane.tobytes() for plane in planes())
