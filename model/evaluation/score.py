"""Scores documents: the exact bits of each.

All documents are one long text, each beginning with BOS. Every token but the very first is a target and is scored once;
bits belong to the document the target lies in, and a BOS stands for no bytes. Logarithms are summed in float64.

`Evaluator` scores text as a recipe says; it has the interface that `golflab.model.audit.judge` audits. `evaluate` turns
documents into a `Score`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from golflab.model.data.tokenizer import Tokenizer
from golflab.model.evaluation.adapters import Adapter
from golflab.model.evaluation.reader import Reader, Scored, Text
from golflab.model.evaluation.windows import Plan
from golflab.model.network.gpt import GPT
from golflab.model.recipe import Recipe
from golflab.model.system.progress import Progress


@dataclass(frozen=True)
class Score:
    """The result of an evaluation.

    Attributes:
        bits: (documents,) float64.
        bytes: (documents,) int64, UTF-8 bytes the scored targets stand for.
        tokens: targets scored.
        seconds: time it took.
    """

    bits: np.ndarray
    bytes: np.ndarray
    tokens: int
    seconds: float

    @property
    def bpb(self) -> float:
        """Bits per byte."""
        return float(self.bits.sum() / max(1, self.bytes.sum()))

    @property
    def nats(self) -> float:
        """Mean loss per target, in nats."""
        return float(self.bits.sum()) * math.log(2) / max(1, self.tokens)

    def to_tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Arrays and facts, as `golflab.model.stages` keeps them."""
        arrays = {"bits": torch.from_numpy(self.bits), "bytes": torch.from_numpy(self.bytes)}
        return arrays, {"tokens": self.tokens, "seconds": self.seconds}

    @staticmethod
    def from_tensors(arrays: dict[str, torch.Tensor], facts: dict[str, Any]) -> Score:
        """Read `to_tensors`' values back."""
        return Score(arrays["bits"].numpy(), arrays["bytes"].numpy(), facts["tokens"], facts["seconds"])


class Evaluator:
    """A recipe's way of scoring text: windows, adapter, temperature and mixer around a model.

    Args:
        model: with the weights that are to be scored.
        tokenizer: has the id of BOS and the bytes of every token.
        recipe: whose evaluate stage is used.
        batch_tokens: inputs read at once; None picks what suits the device.
    """

    def __init__(self, model: GPT, tokenizer: Tokenizer, recipe: Recipe, batch_tokens: int | None = None) -> None:
        self.model, self.tokenizer, self.recipe = model, tokenizer, recipe
        self.plan: Plan = recipe.build("windows")
        self.adapter: Adapter = recipe.build("adapt") or Adapter()
        if (around := recipe.build("adapt_all")) is not None:
            self.adapter = around(self.adapter)
        self.temperature, self.mixer = recipe.build("temperature"), recipe.build("mixer")
        if self.mixer is not None:
            self.mixer.begin(tokenizer)
        on_gpu = next(model.parameters()).device.type == "cuda"
        self.batch_tokens = batch_tokens or (131_072 if on_gpu else 8_192)
        self.vocabulary = recipe.shape.vocabulary
        if self.adapter.announces:  # the audit asks whether there is such a method
            self.order = self._order

    # ------------------------------------------------------------------ the small interface

    def score(self, tokens: np.ndarray) -> np.ndarray:
        """Nats of every target of a text: (N,) tokens -> (N-1,) float64; NaN where the recipe leaves a tail unscored."""
        text = self.text(tokens)
        nats, side = collect(self.walk(text), text.inputs)
        return nats if self.mixer is None else self.mixer.mix(text.tokens, nats, side)

    def distribution(self, prefix: np.ndarray) -> np.ndarray:
        """Probabilities (V,) float64 of the token behind ``prefix``, as `score` would use them."""
        text = self.text(np.append(prefix, self.tokenizer.bos))  # the last token is never read, only scored
        reader = self.reader(text, probe=text.inputs - 1)
        nats, side = collect(self.adapter.walk(reader, self.plan(text.inputs, text.begins)), text.inputs)
        if reader.probed is None:
            raise ValueError(f"the recipe leaves the token behind a prefix of {len(prefix)} tokens unscored (tail=dropped).")
        neural = np.exp(reader.probed)
        return neural if self.mixer is None else self.mixer.distribution(text.tokens, nats, side, neural)

    def count_bytes(self, tokens: np.ndarray) -> np.ndarray:
        """Bytes every target of a text stands for: (N,) -> (N-1,) int64."""
        return self.text(tokens).weights

    def _order(self, documents: Sequence[np.ndarray]) -> np.ndarray:
        """Numbers of the documents in the order in which they are scored; only their lengths count."""
        lengths = np.array([len(document) for document in documents])
        lengths[-1:] -= 1  # the text's last token is a target and no input
        return self.adapter.queue(lengths)

    # ------------------------------------------------------------------ what it is made of

    def text(self, tokens: np.ndarray, counts: np.ndarray | None = None) -> Text:
        """Prepare a token array for reading; ``counts`` (N,) are the bytes its tokens stand for, where they are known."""
        ids = np.asarray(tokens, dtype=np.int64)
        sizes = self.tokenizer.token_bytes(ids[1:], ids[:-1]) if counts is None else counts[1:].astype(np.int64)
        return Text(ids, np.flatnonzero(ids == self.tokenizer.bos), sizes)

    def walk(self, text: Text, skip: int = 0, state: dict[str, torch.Tensor] | None = None) -> Iterator[Scored]:
        """Score a text stretch by stretch, before the mixer."""
        return self.adapter.walk(self.reader(text), self.plan(text.inputs, text.begins), skip, state)

    def reader(self, text: Text, probe: int | None = None) -> Reader:
        """What scores windows of a text with this evaluator's model and temperature."""
        side = None if self.mixer is None else self.mixer.side(text.tokens)
        return Reader(self.model, text, self.temperature, side, self.batch_tokens, probe)


_SLOTS = ("windows", "adapt", "adapt_all", "temperature", "mixer")


def evaluate(
    model: GPT,
    documents: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    recipe: Recipe,
    *,
    progress: Callable[[int, int, float], None] | None = None,
    limit: int | None = None,
    resume: Path | None = None,
    batch_tokens: int | None = None,
    counts: Sequence[np.ndarray] | None = None,
) -> Score:
    """Score documents with a recipe's evaluate stage.

    Args:
        model: with the weights that are scored; it is not changed.
        documents: (tokens,) integer arrays, each beginning with BOS.
        tokenizer: what made them.
        recipe: whose windows, adapter, temperature and mixer are used.
        progress: called with (targets scored, targets in all, bits per byte so far); None shows a bar after two seconds.
        limit: score only the first documents that hold this many tokens together.
        resume: file for finished stretches, from which an interrupted evaluation continues; it is removed at the end.
        batch_tokens: inputs read at once; None picks what suits the device.
        counts: (tokens,) bytes of the original text that each document's tokens stand for; None asks the tokenizer.

    Raises:
        ValueError: no documents, or one of them does not begin with BOS.
    """
    began = time.monotonic()
    chosen = _limited(documents, limit)
    for number, document in enumerate(chosen):
        if not len(document) or document[0] != tokenizer.bos:
            raise ValueError(f"evaluate: document {number} does not begin with BOS (id {tokenizer.bos}).")
    evaluator = Evaluator(model, tokenizer, recipe, batch_tokens)
    text = evaluator.text(np.concatenate(chosen), None if counts is None else np.concatenate(counts[: len(chosen)]))
    nats, side = _walk_through(evaluator, text, progress, resume)
    if evaluator.mixer is not None:
        nats = evaluator.mixer.mix(text.tokens, nats, side)
    return score_of(nats, text, time.monotonic() - began)


def _limited(documents: Sequence[np.ndarray], limit: int | None) -> list[np.ndarray]:
    if not len(documents):
        raise ValueError("evaluate: there are no documents to score.")
    ends = np.cumsum([len(d) for d in documents])
    count = len(documents) if limit is None else max(1, int(np.searchsorted(ends, limit, side="right")))
    return [np.asarray(d) for d in documents[:count]]


def score_of(nats: np.ndarray, text: Text, seconds: float) -> Score:
    """Sum nats and bytes by the document each target lies in."""
    scored = ~np.isnan(nats)
    which = np.searchsorted(text.begins, np.arange(1, len(text.tokens)), side="right") - 1
    bits = np.bincount(which, np.where(scored, nats, 0.0), minlength=len(text.begins)) / math.log(2)
    sizes = np.bincount(which, text.weights * scored, minlength=len(text.begins)).astype(np.int64)
    return Score(bits, sizes, int(scored.sum()), seconds)


def collect(walk: Iterator[Scored], inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Put scores into the order of the text; NaN where nothing was scored."""
    nats, side = np.full(inputs, np.nan), np.full(inputs, np.nan)
    for scored in walk:
        _fill(nats, side, scored)
    return nats, side


def _fill(nats: np.ndarray, side: np.ndarray, scored: Scored) -> None:
    if not np.isnan(nats[scored.inputs]).all():
        raise RuntimeError("a target was scored twice; the adapter or the windows are at fault.")
    nats[scored.inputs] = scored.nats
    if scored.side is not None:
        side[scored.inputs] = scored.side


def _walk_through(
    evaluator: Evaluator, text: Text, progress: Callable[[int, int, float], None] | None, resume: Path | None
) -> tuple[np.ndarray, np.ndarray]:
    """Score the text stretch by stretch, with reports and saves between them."""
    saved = _saved(resume, evaluator, text)
    nats, side = np.full(text.inputs, np.nan), np.full(text.inputs, np.nan)
    skip, state = saved.load(nats, side) if saved else (0, None)
    known = np.flatnonzero(~np.isnan(nats))
    done, total, size = len(known), float(nats[known].sum()), int(text.weights[known].sum())
    with Progress("bits", text.inputs) as bar:
        for number, scored in enumerate(evaluator.walk(text, skip, state), skip + 1):
            _fill(nats, side, scored)
            if saved:
                saved.save(nats, side, number, evaluator.adapter.state)
            done += len(scored.inputs)
            total += float(scored.nats.sum())
            size += int(text.weights[scored.inputs].sum())
            bpb = total / math.log(2) / max(1, size)
            bar.update(done, f"{bpb:.4f} bpb so far")
            if progress is not None:
                progress(done, text.inputs, bpb)
    if saved:
        saved.remove()
    return nats, side


def _saved(path: Path | None, evaluator: Evaluator, text: Text) -> Any:
    """The file for an evaluation that may be interrupted; exported scripts do not contain this part."""
    if path is None:
        return None
    from golflab.model.evaluation.resume import Saved

    settings = [f"{t}" for slot in _SLOTS for t in evaluator.recipe.techniques_in(slot)]
    return Saved(path, text.tokens, evaluator.model, [*settings, str(evaluator.batch_tokens)])
