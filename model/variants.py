"""Variants: many artifacts of one training, as one table. Nothing here trains.

Everything after training is cheap, so one set of weights is quantised, packed and scored under every combination of grids,
clips, roundings, prunings and codecs. Work is shared: weights are quantised once per way of quantising, Hessians are
collected once per calibration, and what differs only in its packing is scored once, since no codec changes a weight.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golflab.model.compression.artifact import pack, unpack
from golflab.model.compression.grid import Quantised
from golflab.model.compression.quantize import quantise, rotated
from golflab.model.data.tokenizer import Tokenizer
from golflab.model.evaluation.score import Evaluator, collect
from golflab.model.network.gpt import GPT
from golflab.model.network.layers import ParameterInfo
from golflab.model.network.weights import load_weights
from golflab.model.recipe import Recipe
from golflab.model.slots import SLOTS
from golflab.model.submission.script import exact_code_bytes
from golflab.model.technique import parse

# A default grid of 160: bits × clip × rounding × prune × codec.
CHOICES: dict[str, tuple[str, ...]] = {
    "prune": ("", "magnitude:fraction=0.08"),
    "bits": ("int8_rows", "int6_rows", "int6_rows:table=6", "int5_rows:table=6", "mixed_rows:table=8"),
    "clip": ("row_max", "mse_clip", "sd_clip:k=8", "sd_clip"),
    "rounding": ("nearest", "gptq"),
    "layout": ("shared_row",),
    "codec": ("zstd_codec", "rans_codec"),
}
QUANTISING = tuple(slot.name for slot in SLOTS.values() if slot.stage == "quantise")
FINISHING = tuple(slot.name for slot in SLOTS.values() if slot.stage in ("quantise", "pack"))
STRETCH, STRETCHES = 1024, 32  # targets that make one observation of a paired difference; fewer where they would be few


@dataclass(frozen=True)
class Bits:
    """The bits that a set of weights needs for a text, stretch by stretch.

    Attributes:
        bits: (stretches,) float64.
        bytes: (stretches,) float64, UTF-8 bytes the stretches stand for.
    """

    bits: np.ndarray
    bytes: np.ndarray

    @property
    def bpb(self) -> float:
        """Bits per byte."""
        return float(self.bits.sum() / self.bytes.sum())

    def minus(self, other: Bits) -> tuple[float, float]:
        """Bits per byte more than another set of weights on the same text, and the standard error of that.

        It is the error of a ratio of sums over stretches. It covers other text of this kind, but not other trainings.
        """
        gaps, total = self.bits - other.bits, float(self.bytes.sum())
        delta, count = float(gaps.sum()) / total, len(gaps)
        rest = gaps - delta * self.bytes
        return delta, math.nan if count < 2 else math.sqrt(count / (count - 1) * float(rest @ rest)) / total


@dataclass(frozen=True)
class Variant:
    """One artifact.

    Attributes:
        slots: what fills each slot of the quantise and pack stages, as text.
        recipe: hash of the recipe.
        bytes: packed weights and code.
        score: of the unpacked artifact, or None where nothing scored it.
        loss: squared error of the stored weights over the weights' energy, over all matrices.
        seconds: quantising, packing and scoring, of what was not shared with an earlier variant.
        limit: bytes it is allowed.
    """

    slots: dict[str, str]
    recipe: str
    bytes: int
    score: Bits | None = field(repr=False)
    loss: float
    seconds: float
    limit: int


def combinations(recipe: Recipe, choices: dict[str, tuple[str, ...]] | None = None) -> Iterator[Recipe]:
    """Recipes that differ from ``recipe`` only after training: every combination of the choices per slot.

    Recipes with the same quantisation follow each other.

    Args:
        recipe: the training and everything the choices leave alone.
        choices: slot -> techniques as `parse` reads them; an empty text leaves the slot empty or at its default.

    Raises:
        ValueError: a slot does not belong to the quantise and pack stages, or a technique is unknown or does not fill the
            slot it is listed under.
    """
    slots = CHOICES if choices is None else choices
    if unknown := [slot for slot in slots if slot not in FINISHING]:
        raise ValueError(f"variants: {unknown[0]!r} is no slot that acts after training; those are {', '.join(FINISHING)}.")
    order = [slot for slot in FINISHING if slot in slots]
    cleared = recipe.without(*(t.name for t in recipe.techniques if t.slot in slots))
    for names in itertools.product(*(slots[slot] for slot in order)):
        techniques = []
        for slot, name in zip(order, names, strict=True):
            if name and parse(name).slot != slot:
                raise ValueError(f"variants: {name!r} fills the slot {parse(name).slot!r}, not {slot!r}.")
            techniques += [parse(name)] if name else []
        yield cleared.with_(*techniques)


def variants(
    weights: dict[str, Tensor],
    infos: list[ParameterInfo],
    recipes: Iterable[Recipe],
    calibrate: Callable[[Recipe], dict[str, Tensor] | None] | None = None,
    score: Callable[[dict[str, Tensor]], Bits] | None = None,
) -> Iterator[Variant]:
    """Quantise, pack and score one set of trained weights under every recipe; yields as it goes.

    Args:
        weights: name -> trained tensor.
        infos: what they are.
        recipes: `combinations`, usually.
        calibrate: recipe -> the Hessians its rounding needs, or None; asked once per rounding and rotation.
        score: unpacked weights -> what they cost; None leaves ``score`` empty.

    Raises:
        RuntimeError: a file did not unpack to what was packed.
    """
    hessians: dict[str, dict[str, Tensor] | None] = {}
    key: tuple[str, ...] = ()
    quantised: dict[str, Quantised] = {}
    found, loss = None, 0.0
    for recipe in recipes:
        begun, mine = time.perf_counter(), _quantising(recipe)
        if fresh := mine != key:
            rounding = " ".join(str(t) for slot in ("rounding", "rotate") for t in recipe.techniques_in(slot))
            if rounding not in hessians:
                hessians[rounding] = None if calibrate is None else calibrate(recipe)
            code = exact_code_bytes(recipe) if recipe.technique_in("trim") else None
            key, quantised = mine, quantise(weights, infos, recipe, hessians[rounding], code)
            loss = stored_loss(rotated(weights, infos, recipe), quantised)
        blob, code = pack(quantised, recipe), exact_code_bytes(recipe)
        back = unpack(blob)
        if any(not torch.equal(back[name], q.dequantised()) for name, q in quantised.items()):
            raise RuntimeError(f"variants: recipe {recipe.hash} did not unpack to what was packed.")
        if fresh and score is not None:
            found = score(back)
        slots = {slot: " ".join(map(str, recipe.techniques_in(slot))) for slot in FINISHING}
        seconds = round(time.perf_counter() - begun, 3)
        yield Variant(slots, recipe.hash, len(blob) + code, found, loss, seconds, recipe.limit)


def _quantising(recipe: Recipe) -> tuple[str, ...]:
    """The techniques that decide the integers; with trimming these include the packing, since it trims to the packed size."""
    slots = FINISHING if recipe.technique_in("trim") is not None else QUANTISING
    return tuple(f"{slot} {t}" for slot in slots for t in recipe.techniques_in(slot))


class TextScorer:
    """Scores weights on one text, always in the same way; by default in windows side by side and without test-time training.

    Args:
        model: the weights are copied into it; its own are lost.
        recipe: the model's.
        documents: (tokens,) integer arrays, each beginning with BOS.
        tokenizer: what made them.
        tokens: how many tokens of them to score.
        windows: keep the recipe's windows and temperature; what learns on the way is left out all the same.
        counts: bytes that each document's tokens stand for; None asks the tokenizer.
    """

    def __init__(
        self,
        model: GPT,
        recipe: Recipe,
        documents: list[np.ndarray],
        tokenizer: Tokenizer,
        tokens: int,
        windows: bool = False,
        counts: list[np.ndarray] | None = None,
    ) -> None:
        kept = ("windows", "temperature") if windows else ()
        plain = recipe.without(*(t.name for t in recipe.techniques if t.stage() == "evaluate" and t.slot not in kept))
        self.model, self.evaluator = model, Evaluator(model, tokenizer, plain)
        sizes = None if counts is None else np.concatenate(counts)[:tokens]
        self.text = self.evaluator.text(np.concatenate([np.asarray(d) for d in documents])[:tokens], sizes)
        self.parts = np.arange(self.text.inputs) // max(1, min(STRETCH, self.text.inputs // STRETCHES))

    def __call__(self, weights: dict[str, Tensor]) -> Bits:
        """Load weights and score them."""
        load_weights(self.model, weights)
        nats, _ = collect(self.evaluator.walk(self.text), self.text.inputs)
        return Bits(np.bincount(self.parts, nats) / math.log(2), np.bincount(self.parts, self.text.weights).astype(float))


def ranked(found: list[Variant], floats: Bits | None = None) -> list[dict[str, Any]]:
    """The variants as rows of a table, best first; those over the limit after all that fit.

    Args:
        found: of `variants`.
        floats: `Bits` of the weights before quantisation.

    Returns:
        plain values: rank, a column per slot, bytes, fits, bpb, over_float and over_best (bits per byte more than the float
        weights and than the best that fits) with ``_se``, loss, seconds, recipe.
    """
    rows = sorted(found, key=lambda v: (v.bytes > v.limit, math.inf if v.score is None else v.score.bpb, v.bytes))
    out = []
    for rank, v in enumerate(rows, 1):
        row: dict[str, Any] = {"rank": rank, **v.slots, "bytes": v.bytes, "fits": v.bytes <= v.limit}
        row["bpb"] = None if v.score is None else v.score.bpb
        for name, other in (("over_float", floats), ("over_best", rows[0].score)):
            gap, error = (None, None) if v.score is None or other is None else v.score.minus(other)
            row |= {name: gap, f"{name}_se": None if error is None or math.isnan(error) else error}
        out.append(row | {"loss": v.loss, "seconds": v.seconds, "recipe": v.recipe})
    return out


def stored_loss(weights: dict[str, Tensor], quantised: dict[str, Quantised]) -> float:
    """Σ (W − Q)² over Σ W², over all matrices."""
    matrices = [(weights[name].float().cpu(), q.dequantised()) for name, q in quantised.items() if q.values.dim() == 2]
    energy = sum(float(w.square().sum()) for w, _ in matrices)
    return sum(float((w - q).square().sum()) for w, q in matrices) / max(energy, 1e-30)
