import functools
import hashlib
import json
import os
import random
import struct
import tracemalloc
import zlib

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golflab.model.compression.artifact import pack, unpack
from golflab.model.compression.container import MAGIC, PREFIX
from golflab.model.compression.quantize import quantise
from golflab.model.recipe import Recipe
from golflab.model.technique import parse
from tests.matrices import dequantise, infos, weights

CODECS = ("zlib_codec", "zstd_codec", "lzma_codec", "brotli_codec", "rans_codec")
LAYOUTS = ("row_bytes", "byte_shuffle", "shared_row", "base3")
# `make fuzz` asks for 10,000 mutations; the ordinary suite makes a few hundred.
MUTATIONS = int(os.environ.get("GOLFLAB_FUZZ", "60"))


@functools.cache
def packed(*techniques, layers=2):
    recipe = Recipe(techniques=tuple(map(parse, techniques)))
    done = quantise(weights(infos(layers=layers)), infos(layers=layers), recipe)
    return done, pack(done, recipe)


def resigned(head, payload, flags=0):
    """A file whose checksum is right, whatever it holds: what a hostile author would send."""
    sizes = struct.pack("<HHIQ", 1, flags, len(head), len(payload))
    return MAGIC + sizes + hashlib.sha256(sizes + head + payload).digest()[:16] + head + payload


def parts(blob):
    size = PREFIX.unpack_from(blob)[3]
    return blob[PREFIX.size : PREFIX.size + size], blob[PREFIX.size + size :]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bits", ["int8_rows", "int5_rows", "mixed_rows:extended=true,table=4", "ternary_rows:attention=2"])
def test_what_is_unpacked_is_what_was_quantised(codec, layout, bits):
    done, blob = packed(codec, layout, bits)
    back = unpack(blob)
    assert list(back) == list(done)
    for name, weight in dequantise(done).items():
        assert back[name].dtype == torch.float32
        assert torch.equal(back[name], weight), name


@pytest.mark.parametrize("codec", CODECS)
def test_packing_is_deterministic(codec):
    assert packed(codec)[1] == packed.__wrapped__(codec)[1]


def test_empty_and_single_models_pack():
    assert unpack(pack({}, Recipe())) == {}
    one = infos()[:1]
    done = quantise(weights(one), one, Recipe())
    assert torch.equal(unpack(pack(done, Recipe()))["table.weight"], done["table.weight"].dequantised())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda b: b"", "not a golflab artifact"),
        (lambda b: b"PK\x03\x04" + b[4:], "not a golflab artifact"),
        (lambda b: b[:4] + b"\x02" + b[5:], "version 2"),
        (lambda b: b[:-1], "truncated"),
        (lambda b: b + b"x", "truncated or damaged"),
        (lambda b: b[:-5] + bytes([b[-5] ^ 1]) + b[-4:], "checksum"),
    ],
)
def test_a_damaged_file_is_named(spoil, words):
    with pytest.raises(ValueError, match=words):
        unpack(spoil(packed("int6_rows")[1]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layout": ["smear_gate", {}]}, "no layout"),
        ({"codec": ["os.system", {}]}, "no codec"),
        ({"codec": ["zlib_codec", {"level": 99}]}, "no codec"),
        ({"codec": ["zlib_codec", {"danger": 1}]}, "no codec"),
        ({"tensors": [["w", [1 << 20, 1 << 20], [127, -127]]]}, "claims"),
        ({"tensors": [["w", [-4, 4], [127, -127]]]}, "does not read"),
        ({"tensors": [["w", [4, 4], [300, -300]]]}, "does not read"),
        ({"tensors": [["w", [4, 4], [127, -127]], ["w", [4, 4], [127, -127]]]}, "share a name"),
        ({"tensors": 3}, "does not read"),
    ],
)
def test_a_hostile_header_is_refused(change, words):
    _, blob = packed()
    head, payload = parts(blob)
    body = json.loads(zlib.decompress(head)) | change
    with pytest.raises(ValueError, match=words):
        unpack(resigned(zlib.compress(json.dumps(body).encode()), payload))


def test_a_header_that_unfolds_without_end_is_refused():
    bomb = zlib.compress(b"[" * (1 << 27), 9)
    tracemalloc.start()
    with pytest.raises(ValueError, match="does not read"):
        unpack(resigned(bomb, b""))
    assert tracemalloc.get_traced_memory()[1] < 1 << 26
    tracemalloc.stop()


@pytest.mark.parametrize("codec", CODECS[:4])
def test_a_payload_that_unfolds_too_far_is_refused(codec):
    _, blob = packed(codec)
    head, _ = parts(blob)
    big = parse(codec).build(None).encode([torch.zeros(1500, 1500, dtype=torch.int8).numpy()], [])
    with pytest.raises(ValueError, match="payload"):
        unpack(resigned(head, big))


def mutated(blob, dice):
    """Flip, cut, repeat or replace some bytes."""
    data = bytearray(blob)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data)) if data else 0
        kind = dice.randrange(4)
        if kind == 0 and data:
            data[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            del data[at : at + dice.randint(1, 40)]
        elif kind == 2:
            data[at:at] = data[at : at + dice.randint(1, 40)]
        else:
            data[at : at + 4] = dice.randbytes(4)
    return bytes(data)


@settings(max_examples=MUTATIONS, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.sampled_from(CODECS))
def test_no_mutation_is_ever_read_as_something_else(seed, codec):
    done, blob = packed(codec, "int6_rows", layers=1)
    changed = mutated(blob, random.Random(seed))
    try:
        back = unpack(changed)
    except ValueError:
        return
    assert changed == blob or all(torch.equal(back[name], w) for name, w in dequantise(done).items())


@settings(max_examples=MUTATIONS, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.sampled_from(CODECS), st.sampled_from(LAYOUTS))
def test_a_forged_checksum_leads_to_an_error_or_to_sane_tensors(seed, codec, layout):
    """Behind a right checksum anything may stand: the reader must stay bounded and raise nothing but ValueError."""
    _, blob = packed(codec, layout, "ternary_rows", layers=1)
    head, payload = parts(blob)
    dice = random.Random(seed)
    body = zlib.decompress(head)
    if dice.random() < 0.5:
        payload = mutated(payload, dice)
    else:
        body = mutated(body, dice)
    try:
        back = unpack(resigned(zlib.compress(body), payload), most_elements=1 << 20)
    except ValueError:
        return
    assert all(torch.isfinite(w).all() for w in back.values())


ADDED = (
    ("int6_rows:table=6", "lqer:group=8,rank=2"),
    ("int6_rows:table=6", "lqer:matrices=32"),
    ("int6_rows:table=6", "gptq", "awq_lite:width=8,groups=9"),
)


@functools.cache
def packed_with_additions(techniques, codec="zlib_codec", layout="shared_row"):
    recipe = Recipe(techniques=tuple(map(parse, (*techniques, codec, layout))))
    parameters = infos()
    hessians = {i.name: torch.diag(torch.linspace(1, 2, i.shape[1])) for i in parameters if i.kind != "scale"}
    done = quantise(weights(parameters), parameters, recipe, hessians)
    return done, pack(done, recipe)


@pytest.mark.parametrize(
    ("codec", "layout"), [*((codec, "shared_row") for codec in CODECS), *(("zlib_codec", layout) for layout in LAYOUTS)]
)
@pytest.mark.parametrize("techniques", ADDED)
def test_additions_come_back_exactly(techniques, codec, layout):
    done, blob = packed_with_additions(techniques, codec, layout)
    back = unpack(blob)
    assert any(q.added for q in done.values())
    assert list(back) == list(done)
    assert all(torch.equal(back[name], w) for name, w in dequantise(done).items())
    with pytest.raises(ValueError, match="version 1"):  # as a program of before would read it: flags are not known
        unpack(blob[:6] + b"\x02" + blob[7:])


@pytest.mark.parametrize(
    "change",
    [
        lambda line: ["nothing", *line[1:]],
        lambda line: ["blocks.0.gain.weight", *line[1:]],
        lambda line: [line[0], "sum", *line[2:]],
        lambda line: [*line[:2], [line[2][0] + 1000], line[3]],
        lambda line: [*line[:2], [], line[3]],
        lambda line: [*line[:2], [True], line[3]],
        lambda line: [*line[:2], [-1], line[3]],
        lambda line: [*line[:3], line[3][:-1]],
        lambda line: [*line[:3], [[[1, 1], [7, -7]], *line[3][1:]]],
        lambda line: [*line[:3], [[line[3][0][0], []], *line[3][1:]]],
        lambda line: 7,
    ],
)
@pytest.mark.parametrize("techniques", [ADDED[0], ADDED[2]])
def test_hostile_additions_are_refused(techniques, change):
    head, payload = parts(packed_with_additions(techniques)[1])
    body = json.loads(zlib.decompress(head))
    body["added"][0] = change(body["added"][0])
    with pytest.raises(ValueError, match="artifact"):
        unpack(resigned(zlib.compress(json.dumps(body).encode()), payload, flags=1))


@settings(max_examples=MUTATIONS, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.sampled_from(ADDED))
def test_forged_additions_lead_to_an_error_or_to_sane_tensors(seed, techniques):
    head, payload = parts(packed_with_additions(techniques)[1])
    body = mutated(zlib.decompress(head), random.Random(seed))
    try:
        back = unpack(resigned(zlib.compress(body), payload, flags=1), most_elements=1 << 20)
    except ValueError:
        return
    assert all(torch.isfinite(w).all() for w in back.values())
