"""Variants: many artifacts of one training, as one table. Nothing here trains.

Everything after training is cheap, so one set of weights is quantised, packed and (where asked) scored under every
combination of grids, clips, roundings, prunings and codecs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from model.artifact import pack, unpack
from model.layers import ParameterInfo
from model.quantize import Quantised, quantise
from model.recipe import Recipe
from model.script import script
from model.technique import parse

# A default grid of 160: bits × clip × rounding × prune × codec.
CHOICES: dict[str, tuple[str, ...]] = {
    "bits": ("int8_rows", "int6_rows", "int6_rows:table=6", "int5_rows:table=6", "mixed_rows:table=8"),
    "clip": ("row_max", "mse_clip", "sd_clip:k=8", "sd_clip"),
    "rounding": ("nearest", "gptq"),
    "prune": ("", "magnitude:fraction=0.08"),
    "codec": ("zstd_codec", "rans_codec"),
}
QUANTISING = ("prune", "bits", "clip", "rounding", "trim")


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        techniques: the quantise and pack techniques, as text.
        recipe: hash of the recipe.
        bytes: packed weights and code.
        bpb: bits per byte of the unpacked artifact, or None where nothing scored it.
        loss: squared error of the stored weights over the weights' energy, over all matrices.
        seconds: quantising and packing.
        fits: whether ``bytes`` is within the recipe's limit.
    """

    techniques: str
    recipe: str
    bytes: int
    bpb: float | None
    loss: float
    seconds: float
    fits: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def combinations(recipe: Recipe, choices: dict[str, tuple[str, ...]] | None = None) -> Iterator[Recipe]:
    """Recipes that differ from ``recipe`` only after training: every combination of the choices per slot.

    Args:
        recipe: the training and everything the choices leave alone.
        choices: slot -> techniques as `parse` reads them; an empty text leaves the slot empty or at its default.

    Raises:
        ValueError: a technique is unknown or does not fill the slot it is listed under.
    """
    slots = CHOICES if choices is None else choices
    for names in itertools.product(*slots.values()):
        techniques = []
        for slot, name in zip(slots, names, strict=True):
            if name and parse(name).slot != slot:
                raise ValueError(f"variants: {name!r} fills the slot {parse(name).slot!r}, not {slot!r}.")
            techniques += [parse(name)] if name else []
        cleared = recipe.without(*(t.name for t in recipe.techniques if t.slot in slots))
        yield cleared.with_(*techniques)


def variants(
    weights: dict[str, Tensor],
    infos: list[ParameterInfo],
    recipes: Iterable[Recipe],
    hessians: dict[str, Tensor] | None = None,
    score: Callable[[dict[str, Tensor], Recipe], float] | None = None,
) -> Iterator[Variant]:
    """Quantise and pack one set of trained weights under every recipe; yields as it goes.

    Args:
        weights: name -> trained tensor.
        infos: what they are.
        recipes: `combinations`, usually.
        hessians: for the recipes that round by GPTQ (`gptq.collect`).
        score: (unpacked weights, recipe) -> bits per byte; None leaves ``bpb`` empty.
    """
    last: tuple[tuple[str, ...], dict[str, Quantised]] = ((), {})
    for recipe in recipes:
        begun = time.perf_counter()
        key = tuple(str(t) for slot in QUANTISING for t in recipe.tenants(slot))
        # Codecs vary fastest: what differs only in the packing is quantised once.
        if key != last[0] or recipe.tenant("trim") is not None:
            last = key, quantise(weights, infos, recipe, hessians)
        blob, code = pack(last[1], recipe), len(script(recipe))
        seconds = time.perf_counter() - begun
        bpb = None if score is None else score(unpack(blob), recipe)
        size, loss = len(blob) + code, stored_loss(weights, last[1])
        named = " ".join(
            str(t) for slot in ("prune", "bits", "clip", "rounding", "trim", "codec") for t in recipe.tenants(slot)
        )
        yield Variant(named, recipe.hash, size, bpb, loss, round(seconds, 3), size <= recipe.limit)


def stored_loss(weights: dict[str, Tensor], quantised: dict[str, Quantised]) -> float:
    """Σ (W − Q)² over Σ W², over all matrices."""
    matrices = [(weights[name].float().cpu(), q.dequantised()) for name, q in quantised.items() if q.values.dim() == 2]
    energy = sum(float(w.square().sum()) for w, _ in matrices)
    return sum(float((w - q).square().sum()) for w, q in matrices) / max(energy, 1e-30)
