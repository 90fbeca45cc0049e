"""Named tensors on disk, with a checksum: checkpoints, stage results, interrupted evaluations."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from golflab.model.system.files import write_atomic


def write_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and a JSON value as one file that begins with its own checksum; atomic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    payload = save_tensors(plain, {"told": json.dumps(facts)})
    write_atomic(path, hashlib.sha256(payload).digest() + payload)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read `write_tensors`' file; None where it is missing or damaged, so that it is computed again."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    payload = content[32:]
    if hashlib.sha256(payload).digest() != content[:32]:
        return None
    header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
    return load_tensors(payload), json.loads(header["__metadata__"]["told"])
