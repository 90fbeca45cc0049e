"""What is cached between stages, and under which key: train once, finish many times.

A stage's key is the hash of everything that can change its result: the key of the stage before it, its own techniques and
knobs, and the source code it runs. Two recipes that differ only after training therefore share one training.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from model.recipe import Recipe, digest
from model.record import write_atomic
from model.technique import SLOTS, Technique

_CODE = {
    "train": ["kernels", "layers", "rotary", "gpt", "initialize", "optimize", "train", "fake_quant", "tokens", "batches"],
    "pack": ["layers", "gpt", "quantize", "gptq", "artifact", "coder"],
    "evaluate": ["kernels", "layers", "gpt", "tokens", "windows", "adapt", "evaluate"],
}


def write_tensors(path: Path, tensors: dict[str, Tensor], told: dict[str, Any]) -> None:
    """Write tensors and a JSON value as one file that begins with its own checksum; atomic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    payload = save_tensors(plain, {"told": json.dumps(told)})
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


class Cache:
    """A folder of stage results, shared by all runs and safe for several processes.

    Args:
        folder: created when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, stage: str, key: str, kind: str = "stage") -> Path:
        """Where a stage's result lies."""
        return self.folder / stage / f"{key}.{kind}"

    def read(self, stage: str, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """A stage's tensors and facts, or None."""
        return read_tensors(self.path(stage, key))

    def write(self, stage: str, key: str, tensors: dict[str, Tensor], told: dict[str, Any]) -> None:
        """Keep a stage's result."""
        write_tensors(self.path(stage, key), tensors, told)

    @contextlib.contextmanager
    def lock(self, stage: str, key: str) -> Iterator[None]:
        """Hold the right to compute a stage on this machine; another process waits, then finds the result."""
        path = self.path(stage, key, "lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def stage_keys(recipe: Recipe, fingerprint: str, dtype: torch.dtype, averages: list[Technique]) -> dict[str, str]:
    """Keys of the stages of ``recipe``.

    Args:
        recipe: the recipe.
        fingerprint: of the tokenised corpus.
        dtype: compute type; it changes the result's last bits.
        averages: the averages that ride along in the training.

    Returns:
        Keys of ``train``, ``pack`` (average, quantise and pack), ``evaluate`` (the artifact) and ``float`` (the same weights
        before quantisation).
    """
    average = recipe.tenant("average")
    in_training = [t for t in _tenants(recipe, "data", "model", "train") if t.slot != "average"]
    later = [t for slot in sorted({s for t in in_training for s in t.reads}) for t in recipe.tenants(slot)]
    body = recipe.to_json()
    train = digest(
        {
            "shape": body["shape"],
            "schedule": body["schedule"],
            "seed": recipe.seed,
            "data": fingerprint,
            "dtype": str(dtype),
            "techniques": _told([*in_training, *later, *averages]),
            "code": _code("train", [*in_training, *later, *averages]),
        }
    )
    finish = _tenants(recipe, "quantise", "pack")
    scoring = _tenants(recipe, "evaluate")
    limit = recipe.limit if recipe.tenant("trim") is not None else None
    pack = digest([train, _told([*finish, *([average] if average else [])]), limit, _code("pack", finish)])
    scored = [_told(scoring), recipe.data.split, _code("evaluate", scoring)]
    return {
        "train": train,
        "pack": pack,
        "evaluate": digest([pack, *scored]),
        "float": digest([train, _told([average] if average else []), *scored]),
    }


def _tenants(recipe: Recipe, *stages: str) -> list[Technique]:
    return [t for slot in SLOTS.values() if slot.stage in stages for t in recipe.tenants(slot.name)]


def _told(techniques: list[Technique]) -> list[str]:
    return [json.dumps({t.name: t.settings()}, sort_keys=True) for t in techniques]


def _code(stage: str, techniques: list[Technique]) -> str:
    """Hash of the source of a stage's modules and of its techniques."""
    names = {f"model.{module}" for module in _CODE[stage]}
    for t in techniques:
        names |= _with_imports(type(t).__module__)
    return digest([hashlib.sha256(_source(name)).hexdigest() for name in sorted(names)])


@functools.cache
def _with_imports(name: str) -> frozenset[str]:
    """A technique's module and the techniques it imports."""
    imported = re.findall(rb"from (model\.techniques\.[\w.]+) import", _source(name))
    return frozenset({name}).union(*(_with_imports(other.decode()) for other in imported))


@functools.cache
def _source(name: str) -> bytes:
    return Path(__file__).parent.parent.joinpath(*name.split(".")).with_suffix(".py").read_bytes()
