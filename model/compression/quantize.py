"""Quantise: trained weights to the integers that are stored, and back to the weights that are scored.

The story: rotate (other weights of the same function); then per parameter prune → bits (which grid) → clip (one fp16 scale per
row) → protect (columns on a finer grid) → rounding; then correct (what is added to what was rounded) → trim (until it fits).
Every step is a slot. A parameter without a grid (gains, gates, and what a `bits` technique keeps in float) is stored as fp16.
What `Quantised.dequantised` says is exactly what a reader of the packed file gets.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from golflab.model.compression.additions import Columns, Part
from golflab.model.compression.artifact import pack
from golflab.model.compression.grid import LARGEST_FLOAT, Finer, Grid, Pruned, Quantised, ToRound, stored_scales, ternary_scales
from golflab.model.network.layers import ParameterInfo
from golflab.model.recipe import Recipe

EIGHT_BITS = Grid(127, -127)  # of protected columns


def quantise(
    weights: dict[str, Tensor],
    infos: list[ParameterInfo],
    recipe: Recipe,
    hessians: dict[str, Tensor] | None = None,
    code_bytes: int | None = None,
) -> dict[str, Quantised]:
    """Store every parameter as the recipe's quantise stage says.

    Args:
        weights: name -> float tensor, on any device; read only.
        infos: what each of them is, in the order they are packed.
        recipe: its techniques in the slots prune, bits, clip, rounding and trim are used.
        hessians: name -> (in, in) mean of x xᵀ over calibration inputs; GPTQ needs one per linear it rounds.
        code_bytes: bytes of the code, for which `trim` leaves room; needed where the recipe trims.

    Returns:
        name -> `Quantised` on the CPU, in the order of ``infos``.

    Raises:
        ValueError: a tensor is missing, has another shape, is not finite, or does not fit fp16; or ``code_bytes`` is missing.
    """
    weights, hessians = rotated({info.name: _checked(weights, info) for info in infos}, infos, recipe), hessians or {}
    steps = _Steps(recipe)
    steps.study(weights, infos, hessians)
    done = {info.name: steps.apply(weights[info.name], info, hessians.get(info.name)) for info in infos}
    correct = recipe.technique_in("correct")
    if correct is not None:
        done = correct.build(recipe.shape)(weights, done)
    trim = recipe.technique_in("trim")
    if trim is None:
        return done
    if code_bytes is None:
        raise ValueError(f"quantise: {trim.name} leaves room for the code; give its length as code_bytes.")
    room = recipe.limit - code_bytes
    trimmed: dict[str, Quantised] = recipe.build("trim")(done, lambda trial: len(pack(trial, recipe)), room)
    return trimmed


def rotated(weights: dict[str, Tensor], infos: list[ParameterInfo], recipe: Recipe) -> dict[str, Tensor]:
    """The weights that are quantised: those given, or others of the same function (slot `rotate`)."""
    rotate = recipe.technique_in("rotate")
    if rotate is None:
        return weights
    turned: dict[str, Tensor] = rotate.build(recipe.shape)(weights, infos)
    return turned


class _Steps:
    """The recipe's per-parameter steps, built once."""

    def __init__(self, recipe: Recipe) -> None:
        slots = ("prune", "bits", "clip", "protect", "rounding")
        self.prune, self.bits, self.clip, self.protect, self.rounding = map(recipe.build, slots)
        self.protected: dict[str, list[slice]] = {}

    def study(self, weights: dict[str, Tensor], infos: list[ParameterInfo], hessians: dict[str, Tensor]) -> None:
        """Let those steps look at the whole model that choose by comparing its matrices."""
        if hasattr(self.clip, "study"):
            self.clip.study(weights, infos, hessians)
        if self.protect is not None:
            self.protected = self.protect(weights, infos, hessians, self.bits)

    def apply(self, weight: Tensor, info: ParameterInfo, hessian: Tensor | None) -> Quantised:
        grid: Grid | None = self.bits(info)
        pruned = Pruned(weight, None, None)
        if self.prune is not None and info.kind != "scale":
            pruned = self.prune(weight, info)
        if grid is None:
            return _as_float16(pruned, info)
        scales = stored_scales(ternary_scales(weight) if grid.largest == 1 else self.clip(weight, grid.largest, info))
        finer = [self._finer(weight, info, columns) for columns in self.protected.get(info.name, ())]
        integers = self.rounding(ToRound(pruned.weight, scales, grid, info, hessian, pruned.during, tuple(finer)))
        if pruned.after is not None:
            integers = integers * pruned.after
        stored, added = integers.to("cpu", torch.int8), []
        for block in finer:
            columns = stored[:, block.columns].clone()
            added.append(Columns(block.columns.start, Part(block.grid, columns, block.scales.to("cpu", torch.float16))))
            stored[:, block.columns] = 0
        return Quantised(info, grid, stored, scales.to("cpu", torch.float16), tuple(added))

    def _finer(self, weight: Tensor, info: ParameterInfo, columns: slice) -> Finer:
        """Eight bits for some columns, with scales of their own by the recipe's own rule."""
        scales = self.clip(weight[:, columns], EIGHT_BITS.largest, info)
        return Finer(columns, stored_scales(scales), EIGHT_BITS)


def largest_quantiles(rows: Tensor, quantiles: tuple[float, ...]) -> list[Tensor]:
    """`torch.quantile` of every row of (rows, columns) at several points near 1, (rows,) each, from one partial sort."""
    last = rows.shape[1] - 1
    top = rows.topk(last - int(min(quantiles) * last) + 1, dim=1).values  # descending
    found = []
    for p in quantiles:
        place = p * last
        above, below = top[:, last - min(int(place) + 1, last)], top[:, last - int(place)]
        found.append(torch.lerp(below, above, place - int(place)))
    return found


def round_to(weight: Tensor, scales: Tensor, grid: Grid, finer: Sequence[Finer] = ()) -> Tensor:
    """Nearest integers of ``weight`` (rows, columns) over ``scales`` (rows,), inside the grid, as float.

    Columns of ``finer`` are rounded on their own grids.
    """
    integers = torch.round(weight / scales[:, None]).clamp_(grid.lowest, grid.largest)
    for block in finer:
        integers[:, block.columns] = round_to(weight[:, block.columns], block.scales, block.grid)
    return integers


def nearest(matrix: ToRound) -> Tensor:
    """Nearest integers of a matrix, (rows, columns) as float; zero where its mask says so."""
    integers = round_to(matrix.weight, matrix.scales, matrix.grid, matrix.finer)
    return integers if matrix.keep is None else integers * matrix.keep


def rounding_error(weight: Tensor, scales: Tensor, largest: int) -> Tensor:
    """Σ (W − Q)² per row, (rows,), when ``weight`` is rounded to ±``largest`` levels of ``scales`` (rows,)."""
    rounded = torch.round(weight / scales[:, None]).clamp_(-largest, largest) * scales[:, None]
    return (weight - rounded).square_().sum(dim=1)


def _checked(weights: dict[str, Tensor], info: ParameterInfo) -> Tensor:
    if info.name not in weights:
        raise ValueError(f"quantise: there is no tensor {info.name!r} among the {len(weights)} given.")
    weight = weights[info.name].detach().float()
    if tuple(weight.shape) != tuple(info.shape):
        raise ValueError(f"quantise: {info.name} has shape {tuple(weight.shape)}, the model expects {tuple(info.shape)}.")
    if not torch.isfinite(weight).all():
        raise ValueError(f"quantise: {info.name} holds NaN or infinity; the training diverged and cannot be packed.")
    return weight


def _as_float16(pruned: Pruned, info: ParameterInfo) -> Quantised:
    weight = pruned.weight if pruned.after is None else pruned.weight * pruned.after
    if weight.numel() and float(weight.abs().max()) > LARGEST_FLOAT:
        raise ValueError(
            f"quantise: {info.name} reaches {float(weight.abs().max()):.3g}, beyond fp16's {LARGEST_FLOAT:.0f}; the training "
            "diverged, or its learning rate is too high."
        )
    return Quantised(info, None, weight.to("cpu", torch.float16), None)
