"""Quantise: trained weights to the integers that are stored, and back to the weights that are scored.

The story, per parameter: prune → bits (which grid) → clip (one fp16 scale per row) → rounding → trim (until it fits).
Every step is a slot. A parameter without a grid (gains, gates, and what a `bits` technique keeps in float) is stored as
fp16. What `Quantised.dequantised` says is exactly what a reader of the packed file gets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from model.blueprint import blueprint
from model.layers import ParameterInfo
from model.recipe import Recipe, Shape
from model.technique import Technique

SMALLEST_SCALE = 2.0**-24  # fp16's smallest positive number: a row of zeros keeps a scale a division survives
LARGEST_FLOAT = 65504.0


class Grid(NamedTuple):
    """The integers a parameter may take: ``lowest`` … ``largest``, each times its row's scale.

    ``largest`` = 1 is the ternary grid; its scale is the row's mean of |w| (what it was trained with), whatever fills
    the slot `clip`.
    """

    largest: int
    lowest: int

    @property
    def bits(self) -> float:
        """Nominal bits per weight: the logarithm of the number of levels, before any entropy coding."""
        return float(torch.tensor(float(self.largest - self.lowest + 1)).log2())


def grid_of(bits: int, extended: bool = False) -> Grid | None:
    """The grid of a nominal width: 8 → ±127, 6 → ±31, 2 → ternary; 16 → None, which is fp16.

    Args:
        bits: nominal width.
        extended: also use the one code two's complement has below −largest, as #295's export does.
    """
    if bits == 16:
        return None
    largest = 2 ** (bits - 1) - 1
    return Grid(largest, -largest - 1 if extended else -largest)


def grid_by_role(info: ParameterInfo, bits: dict[str, int], small: int = 0, extended: bool = False) -> Grid | None:
    """The grid of ``info`` when widths are chosen by role.

    Kinds decide, not sizes: every `Linear` and `Table` has a grid and no `Scale` has one, so that a proxy is quantised
    as the full model is. Entries sort by size instead; ``small`` does the same.

    Args:
        info: the parameter.
        bits: role -> nominal width; other roles take the entry ``other``.
        small: matrices of at most this many elements stay fp16 (65,536 or 8,192 in the entries; 0: none).
        extended: see `grid_of`.
    """
    if info.kind == "scale" or len(info.shape) != 2 or info.count <= small:
        return None
    return grid_of(bits.get(info.role, bits["other"]), extended)


class Rows(Technique):
    """What the techniques of the slot ``bits`` share: the size up to which a matrix stays fp16 goes with a matrix's size."""

    slot: ClassVar[str] = "bits"
    small: int

    def rescale(self, old: Shape, new: Shape) -> Rows:
        """``small`` is a number of elements, so it goes with the square of the width."""
        return replace(self, small=self.small * new.width**2 // old.width**2)  # type: ignore[type-var]

    def canonical(self, recipe: Recipe) -> Technique:
        """``small`` names the largest matrix that it spares, of those that would have a grid otherwise."""
        if not self.small:
            return self
        grid_of = self.without_exceptions().build(recipe.shape)
        return self._with(small=largest_spared(self.small, recipe, lambda info: grid_of(info) is not None))

    def without_exceptions(self) -> Rows:
        """The same widths for every matrix, those included that the export keeps in fp16 by their size or place."""
        return replace(self, small=0)  # type: ignore[type-var]


def largest_spared(small: int, recipe: Recipe, counts: Callable[[ParameterInfo], bool] = lambda info: True) -> int:
    """Elements of the largest matrix or table with at most ``small`` of them; 0 where there is none that small.

    Limits between the sizes of two matrices of a model mean the same.

    Args:
        small: the limit.
        recipe: whose model's matrices are meant.
        counts: which of them matter.
    """
    infos = blueprint(recipe) if small else ()
    spared = (i.count for i in infos if i.kind != "scale" and i.count <= small and counts(i))
    return max(spared, default=0 if infos else small)


def stored_roles(recipe: Recipe) -> set[tuple[str, str]] | None:
    """(kind, role) of everything that the recipe stores on a grid whose scales `clip` chooses; None where that is not known."""
    bits, infos = recipe.tenant("bits"), blueprint(recipe)
    if bits is None or not infos:
        return None
    grids = ((info, bits.build(recipe.shape)(info)) for info in infos)
    return {(info.kind, info.role) for info, grid in grids if grid is not None and grid.largest > 1}


class Pruned(NamedTuple):
    """What a `prune` technique returns.

    Attributes:
        weight: (rows, columns), zeros where pruned before rounding.
        during: mask of the weights rounding must leave at zero even if it feeds errors forward, or None.
        after: mask of the integers kept after rounding, or None.
    """

    weight: Tensor
    during: Tensor | None
    after: Tensor | None


@dataclass(frozen=True)
class Quantised:
    """One parameter as it is stored.

    Attributes:
        info: which parameter.
        grid: its integers' range; None where ``values`` are fp16 themselves.
        values: (rows, columns) int8, or float16 of any shape.
        scales: (rows,) float16, or None without a grid.
    """

    info: ParameterInfo
    grid: Grid | None
    values: Tensor
    scales: Tensor | None

    def dequantised(self) -> Tensor:
        """The float32 tensor a reader of the packed file gets."""
        if self.scales is None:
            return self.values.float()
        return self.values.float() * self.scales.float()[:, None]


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
        recipe: its tenants of prune, bits, clip, rounding and trim are used.
        hessians: name -> (in, in) mean of x xᵀ over calibration inputs; GPTQ needs one per linear it rounds.
        code_bytes: bytes of the code that travels, which `trim` leaves room for; None has the script built and measured.

    Returns:
        name -> `Quantised` on the CPU, in the order of ``infos``.

    Raises:
        ValueError: a tensor is missing, has another shape, is not finite, or does not fit fp16.
    """
    steps = _Steps(recipe)
    done = {info.name: steps.apply(_checked(weights, info), info, (hessians or {}).get(info.name)) for info in infos}
    trim = recipe.tenant("trim")
    if trim is None:
        return done
    from model.artifact import pack  # it imports this module

    room = recipe.limit - (_script_bytes(recipe) if code_bytes is None else code_bytes)
    trimmed: dict[str, Quantised] = trim.build(recipe.shape)(done, lambda trial: len(pack(trial, recipe)), room)
    return trimmed


def _script_bytes(recipe: Recipe) -> int:
    from model.script import script  # a script on its travels knows its own length and leaves `model.script` behind

    return len(script(recipe))


class _Steps:
    """The recipe's per-parameter steps, built once."""

    def __init__(self, recipe: Recipe) -> None:
        def build(slot: str) -> object:
            tenant = recipe.tenant(slot)
            return None if tenant is None else tenant.build(recipe.shape)

        self.prune, self.bits, self.clip, self.rounding = map(build, ("prune", "bits", "clip", "rounding"))

    def apply(self, weight: Tensor, info: ParameterInfo, hessian: Tensor | None) -> Quantised:
        grid: Grid | None = self.bits(info)  # type: ignore[operator]
        pruned = Pruned(weight, None, None)
        if self.prune is not None and info.kind != "scale":
            pruned = self.prune(weight, info)  # type: ignore[operator]
        if grid is None:
            return _as_float16(pruned, info)
        scales = stored_scales(ternary_scales(weight) if grid.largest == 1 else self.clip(weight, grid.largest, info))  # type: ignore[operator]
        integers = self.rounding(pruned.weight, scales, grid, hessian, pruned.during)  # type: ignore[operator]
        if pruned.after is not None:
            integers = integers * pruned.after
        return Quantised(info, grid, integers.to("cpu", torch.int8), scales.to("cpu", torch.float16))


def stored_scales(scales: Tensor) -> Tensor:
    """Scales (rows,) as the file will hold them: rounded to fp16 (so rounding sees the true step), never zero."""
    return scales.float().clamp(SMALLEST_SCALE, LARGEST_FLOAT).half().float()


def ternary_scales(weight: Tensor) -> Tensor:
    """Mean of |w| per row, (rows,): the scale ternary weights are trained with (Q11, #211)."""
    return weight.abs().mean(dim=1)


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


def round_to(weight: Tensor, scales: Tensor, grid: Grid) -> Tensor:
    """Nearest integers of ``weight`` (rows, columns) over ``scales`` (rows,), inside the grid, as float."""
    return torch.round(weight / scales[:, None]).clamp_(grid.lowest, grid.largest)


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
        raise ValueError(f"quantise: {info.name} reaches {float(weight.abs().max()):.3g}, beyond fp16's {LARGEST_FLOAT:.0f}.")
    return Quantised(info, None, weight.to("cpu", torch.float16), None)


def with_values(q: Quantised, values: Tensor) -> Quantised:
    """The same parameter with other integers, clamped into its grid."""
    assert q.grid is not None
    return replace(q, values=values.clamp(q.grid.lowest, q.grid.largest).to(torch.int8))
