"""What must not change when code is moved: names of recipes, bytes of artifacts, fields of records.

Everything here is exact on any machine: the weights are multiples of 1/64, and only whole numbers are packed. Where such a
change is wanted, say so in CHANGELOG.md, say what happens to old experiments, and write the new values with
``python -m tests.test_golden``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zlib
from pathlib import Path

import pytest
import torch

from golflab.model.compression.artifact import pack
from golflab.model.compression.container import PREFIX
from golflab.model.compression.quantize import quantise
from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.model.technique import catalogue, parse
from golflab.spaces.presets import PRESETS, preset
from golflab.spaces.scales import SCALES
from tests.contract_helpers import TINY
from tests.matrices import infos

GOLDEN = Path(__file__).with_suffix(".json")
GRIDS = ("int8_rows", "int6_rows", "int5_rows", "mixed_rows:extended=true,table=4", "ternary_rows:attention=2")
LAYOUTS = ("row_bytes", "byte_shuffle", "shared_row", "base3")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def exact_weights():
    """Whole multiples of 1/64, which every machine multiplies and rounds alike."""
    out = {}
    for k, info in enumerate(infos()):
        count = torch.Size(info.shape).numel()
        whole = (torch.arange(count) * 7919 + 131 * k) % 255 - 127
        out[info.name] = whole.reshape(info.shape).float() / 64
    return out


def recipes() -> dict[str, str]:
    """Name -> hash of every preset at every scale, and of every technique alone in a small body."""
    found = {f"{name} {scale}": preset(name, scale).hash for name in PRESETS for scale in SCALES}
    return found | {name: Recipe(TINY, techniques=(kind(),)).hash for name, kind in catalogue().items()}


def artifacts() -> dict[str, str]:
    """Grid, layout and codec -> digest of the file.

    zlib's payload is unfolded first: other versions of it write other bytes.
    """
    found = {}
    for grid in GRIDS:
        for layout in LAYOUTS:
            recipe = Recipe(TINY, techniques=(parse(grid), parse(layout), parse("zlib_codec")))
            blob = pack(quantise(exact_weights(), infos(), recipe), recipe)
            size = PREFIX.unpack_from(blob)[3]
            head, payload = blob[PREFIX.size : PREFIX.size + size], blob[PREFIX.size + size :]
            found[f"{grid} {layout}"] = digest(blob[:8] + zlib.decompress(head) + zlib.decompress(payload))
        recipe = Recipe(TINY, techniques=(parse(grid), parse("row_bytes"), parse("rans_codec")))
        blob = pack(quantise(exact_weights(), infos(), recipe), recipe)
        found[f"{grid} rans_codec"] = digest(blob[PREFIX.size + PREFIX.unpack_from(blob)[3] :])
    return found


def record() -> list[str]:
    """Fields of a record's file, in their order."""
    return [field.name for field in dataclasses.fields(Record)]


PARTS = {"recipes": recipes, "artifacts": artifacts, "record": record}


@pytest.mark.parametrize("part", PARTS)
def test_it_is_as_it_was(part):
    assert PARTS[part]() == json.loads(GOLDEN.read_text())[part]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({name: made() for name, made in PARTS.items()}, indent=1) + "\n")
