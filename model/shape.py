"""Shape (the sizes of a model), schedule (how long it trains) and data (what it reads)."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import Any


def plain_value(value: Any, kind: type, what: str) -> Any:
    """A value in the type of its field, so that equal values are written alike: 1.0 as 1 in an int field.

    Args:
        value: what was given; NumPy's numbers are accepted.
        kind: type of the field: bool, int, float or str.
        what: name of the field in an error.

    Raises:
        ValueError: the value cannot be read as this type.
    """
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if kind is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool and (isinstance(value, bool) or (number and value in (0, 1))):
        return bool(value)
    if kind is int and number and value == value // 1:
        return int(value)
    if kind is float and number:
        return float(value) + 0.0  # -0.0 is 0.0
    if kind is str and isinstance(value, str):
        return str(value)
    named = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    raise ValueError(f"{what}={value!r} must be {named[kind]}.")


@dataclass(frozen=True)
class Shape:
    """The sizes of a model.

    Attributes:
        layers: physical blocks.
        width: residual stream, D.
        heads: query heads, H.
        kv_heads: key/value heads, K; divides ``heads``.
        hidden: MLP units, F.
        vocabulary: token ids, V.
        context: positions a training sequence has, T.
        tied: whether the token table is also the output matrix.
    """

    layers: int = 9
    width: int = 512
    heads: int = 8
    kv_heads: int = 4
    hidden: int = 1024
    vocabulary: int = 1024
    context: int = 1024
    tied: bool = True

    def __post_init__(self) -> None:
        make_plain(self, "shape")
        for name in ("layers", "width", "heads", "kv_heads", "hidden", "vocabulary", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"shape: {name}={getattr(self, name)} must be a whole number of at least 1.")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"shape: width={self.width} must be an even multiple of heads={self.heads}.")
        if self.heads % self.kv_heads:
            raise ValueError(f"shape: kv_heads={self.kv_heads} must divide heads={self.heads}.")

    @property
    def head_width(self) -> int:
        """Width of one head, d."""
        return self.width // self.heads


@dataclass(frozen=True)
class Schedule:
    """How long a run trains, and in what portions. The first limit that is reached ends it.

    Attributes:
        tokens: training tokens in all; None leaves it to ``seconds``.
        seconds: training seconds on the clock (compiling excluded); None leaves it to ``tokens``.
        batch_tokens: tokens per optimiser step, over all processes.
        micro_tokens: tokens per forward pass; gradients accumulate over ``batch_tokens / micro_tokens`` of them.
    """

    tokens: int | None = 524_288
    seconds: float | None = None
    batch_tokens: int = 4_096
    micro_tokens: int = 4_096

    def __post_init__(self) -> None:
        make_plain(self, "schedule")
        if self.tokens is None and self.seconds is None:
            raise ValueError("schedule: give tokens, seconds or both, or the run would never end.")
        if self.batch_tokens < 1 or self.micro_tokens < 1 or self.batch_tokens % self.micro_tokens:
            raise ValueError(
                f"schedule: batch_tokens={self.batch_tokens} must be a multiple of micro_tokens={self.micro_tokens}."
            )
        if self.tokens is not None and self.tokens < self.batch_tokens:
            raise ValueError(f"schedule: tokens={self.tokens} is less than one step; give at least {self.batch_tokens}.")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ValueError(f"schedule: seconds={self.seconds} must be a positive number.")

    @property
    def steps(self) -> int | None:
        """Optimiser steps that ``tokens`` allows, or None where only the clock bounds the run."""
        return None if self.tokens is None else self.tokens // self.batch_tokens


@dataclass(frozen=True)
class Data:
    """What is read.

    Attributes:
        corpus: ``sotu``, or the path of a text, jsonl, jsonl.zst file, of a folder of them, or of official shards.
        tokenizer: ``auto`` trains one on the corpus at the shape's vocabulary; otherwise the path of a ``.model`` file.
        split: what the run is scored on: ``dev`` (the search's own) or ``test`` (which no search ever sees).
        allow_overlap: go on although the training text contains held-out text. JSON has this field only where it is true.
    """

    corpus: str = "sotu"
    tokenizer: str = "auto"
    split: str = "dev"
    allow_overlap: bool = False

    def __post_init__(self) -> None:
        make_plain(self, "data")
        if self.split not in ("dev", "test"):
            raise ValueError(f"data: split={self.split!r} must be 'dev' or 'test'.")
        if not isinstance(self.allow_overlap, bool):
            raise ValueError(f"data: allow_overlap={self.allow_overlap!r} must be true or false.")


_KINDS = {"bool": bool, "int": int, "float": float, "str": str}


def make_plain(part: Any, what: str) -> None:
    """Give every plain field of a frozen dataclass the type of its annotation.

    Raises:
        ValueError: a value cannot be read as that type.
    """
    for spec in dataclasses.fields(part):
        kind, _, none = str(spec.type).partition(" | ")
        value = getattr(part, spec.name)
        if kind in _KINDS and not (none and value is None):
            object.__setattr__(part, spec.name, plain_value(value, _KINDS[kind], f"{what}: {spec.name}"))
