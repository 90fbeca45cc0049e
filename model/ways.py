"""Finish one training in further ways: what each technique that acts after training is worth, on the same weights and text.

Grids, clips, codecs, averages and windows need no training of their own. A finished training is therefore quantised, packed
and scored a few times more, each time with one such technique switched on, and the difference to the training without it is
kept. Both sides of a difference share the weights and the text, so its error is far smaller than that of two trainings.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from golflab.model.compression.artifact import unpack
from golflab.model.compression.finish import artifact
from golflab.model.data.prepare import TokenData
from golflab.model.network.gpt import GPT
from golflab.model.recipe import Recipe
from golflab.model.slots import SLOTS
from golflab.model.submission.script import code_bytes
from golflab.model.technique import parse
from golflab.model.training.result import Trained, average_key
from golflab.model.variants import FINISHING, Bits, TextScorer

TOKENS = 4_096  # of the split that each way is scored on


@dataclass(frozen=True)
class Way:
    """A technique to switch on after a training, and what it is compared with.

    Attributes:
        technique: as `parse` reads it (``int5_rows:table=6``).
        beside: techniques that are on in both recipes compared: a clip is tried together with few bits, where it acts.
    """

    technique: str
    beside: tuple[str, ...] = ()

    @staticmethod
    def parse(text: str) -> Way:
        """Read ``int5_rows`` or ``mse_clip@int5_rows``: a technique and, after @, what it is tried with, joined by +."""
        technique, _, beside = text.partition("@")
        return Way(technique, tuple(filter(None, beside.split("+"))))

    def __str__(self) -> str:
        return "@".join(filter(None, (self.technique, "+".join(self.beside))))

    def check(self, recipe: Recipe) -> Way:
        """Return self if it can finish a training of ``recipe``.

        Raises:
            ValueError: one of its techniques acts before the training ends, or the result cannot be.
        """
        for text in (self.technique, *self.beside):
            slot = SLOTS[parse(text).slot]
            if slot.name != "average" and slot.stage not in ("quantise", "pack", "evaluate"):
                raise ValueError(f"finish: {text!r} acts during training (slot {slot.name!r}); name one that acts after it.")
        for made in self.sides(recipe):
            made.check()
        return self

    def sides(self, recipe: Recipe) -> tuple[Recipe, Recipe]:
        """The two recipes that are compared: without the technique and with it."""
        without = recipe.with_(*(parse(text) for text in self.beside))
        return without, without.with_(parse(self.technique))


def compare(
    recipe: Recipe, trained: Trained, model: GPT, data: TokenData, ways: Sequence[Way], tokens: int = TOKENS
) -> list[dict[str, Any]]:
    """Finish a training in further ways and compare each with the recipe as it is.

    The text is a stretch of the recipe's split. Where it begins follows from the recipe's hash, so every training is scored on
    another one: the spread of a difference over trainings includes the spread over texts.

    Args:
        recipe: what was trained.
        trained: its weights and averages.
        model: on the device; its own weights are lost.
        data: what it was trained on and is scored on.
        ways: what to try.
        tokens: targets to score.

    Returns:
        one dictionary a way: technique, beside, slot, instead_of (what the slot held), delta_bpb and delta_bytes (with the
        technique minus without it), bpb and bytes (without it), tokens and seconds. A way whose two sides are one recipe is
        left out.
    """
    text, counts = _stretch(data, recipe, tokens)
    bench, out = _Bench(trained, model, data, text, counts), []
    for way in ways:
        began = time.perf_counter()
        without, with_ = way.sides(recipe)
        if without.hash == with_.hash:
            continue
        (old, old_bytes), (new, new_bytes) = bench.measured(without), bench.measured(with_)
        slot = parse(way.technique).slot
        out.append(
            {
                "technique": parse(way.technique).name,
                "beside": [parse(text).name for text in way.beside],
                "slot": slot,
                "instead_of": [t.name for t in without.techniques_in(slot)],
                "delta_bpb": new.minus(old)[0],
                "delta_bytes": new_bytes - old_bytes,
                "bpb": old.bpb,
                "bytes": old_bytes,
                "tokens": len(text) - 1,
                "seconds": round(time.perf_counter() - began, 3),
            }
        )
    return out


class _Bench:
    """One training's weights. Each way of storing and scoring them is computed once."""

    def __init__(
        self, trained: Trained, model: GPT, data: TokenData, text: np.ndarray, counts: list[np.ndarray] | None
    ) -> None:
        self._trained, self._model, self._data, self._text, self._counts = trained, model, data, text, counts
        self._stored: dict[tuple[str, ...], tuple[dict[str, Tensor], int]] = {}
        self._scores: dict[tuple[str, ...], Bits] = {}

    def measured(self, recipe: Recipe) -> tuple[Bits, int]:
        """The `Bits` of a recipe's artifact on the text, and its bytes, code included."""
        average = recipe.technique_in("average")
        storing = (str(average), *(f"{slot} {t}" for slot in FINISHING for t in recipe.techniques_in(slot)))
        if storing not in self._stored:
            self._stored[storing] = self._packed(recipe)
        weights, size = self._stored[storing]
        # What differs only in its packing has the same weights, and what has the same weights the same score.
        values = [s for s in storing if s.partition(" ")[0] not in ("layout", "codec")]
        scoring = (*values, *(str(t) for slot in ("windows", "temperature") for t in recipe.techniques_in(slot)))
        if scoring not in self._scores:
            self._scores[scoring] = self._scored(recipe, weights)
        return self._scores[scoring], size + code_bytes(recipe)

    def _packed(self, recipe: Recipe) -> tuple[dict[str, Tensor], int]:
        weights = self._trained.chosen(recipe.technique_in("average"))
        blob = artifact(recipe, self._model, weights, self._data.train, code_bytes(recipe))
        return unpack(blob), len(blob)

    def _scored(self, recipe: Recipe, weights: dict[str, Tensor]) -> Bits:
        tokenizer, counts = self._data.tokenizer, self._counts
        return TextScorer(self._model, recipe, [self._text], tokenizer, len(self._text), windows=True, counts=counts)(weights)


def collected(ways: Sequence[Way], trained: Trained) -> list[Way]:
    """The ways in which a training can be finished; those with an average that collected no weights are left out."""
    kept = []
    for way in ways:
        averages = [t for t in map(parse, (way.technique, *way.beside)) if t.slot == "average"]
        if all(average_key(t) in trained.averages for t in averages):
            kept.append(way)
    return kept


def _stretch(data: TokenData, recipe: Recipe, tokens: int) -> tuple[np.ndarray, list[np.ndarray] | None]:
    """(tokens + 1,) BOS and a stretch of the recipe's split, which begins where the recipe's hash says; and its bytes."""
    text = np.concatenate([np.asarray(d) for d in data.split(recipe.data.split)]).astype(np.int64)
    length = min(tokens, len(text) - 1)
    first = 1 + int(recipe.hash, 16) % (len(text) - length)
    sizes = data.counts.get(recipe.data.split)
    counts = None if sizes is None else [np.append(0, np.concatenate(sizes)[first : first + length])]
    return np.concatenate([[data.tokenizer.bos], text[first : first + length]]), counts
