"""Grid: the form of a quantised parameter. The integers it may take, its scales, and the values read back from the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor

from golflab.model.network.blueprint import blueprint
from golflab.model.network.layers import ParameterInfo
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique

if TYPE_CHECKING:
    from golflab.model.compression.additions import Addition

SMALLEST_SCALE = 2.0**-24  # fp16's smallest positive number: a row of zeros keeps a scale a division survives
LARGEST_FLOAT = 65504.0


class Grid(NamedTuple):
    """The integers a parameter may take: ``lowest`` … ``largest``, each times its row's scale.

    ``largest`` = 1 is the ternary grid; its scale is the row's mean of |w| (as in training), whatever technique
    is in the slot `clip`.
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
    """Base of the techniques in the slot ``bits``: the size up to which a matrix stays fp16 scales with the model."""

    slot: ClassVar[str] = "bits"
    small: int

    def rescale(self, old: Shape, new: Shape) -> Rows:
        """Scale ``small``, a number of elements, with the square of the width."""
        return replace(self, small=self.small * new.width**2 // old.width**2)  # type: ignore[type-var]

    def canonical(self, recipe: Recipe) -> Technique:
        """Set ``small`` to the size of the largest matrix that it keeps in fp16."""
        if not self.small:
            return self
        grid_of = self.without_exceptions().build(recipe.shape)
        return self._with(small=largest_spared(self.small, recipe, lambda info: grid_of(info) is not None))

    def without_exceptions(self) -> Rows:
        """The same widths for every matrix, without exceptions for small matrices or late layers."""
        return replace(self, small=0)  # type: ignore[type-var]


def largest_spared(small: int, recipe: Recipe, counts: Callable[[ParameterInfo], bool] = lambda info: True) -> int:
    """Elements of the largest matrix or table with at most ``small`` of them; 0 where there is none that small.

    All limits between the sizes of two neighbouring matrices have the same effect.

    Args:
        small: the limit.
        recipe: whose model's matrices are meant.
        counts: which of them are considered.
    """
    infos = blueprint(recipe) if small else ()
    spared = (i.count for i in infos if i.kind != "scale" and i.count <= small and counts(i))
    return max(spared, default=0 if infos else small)


def stored_roles(recipe: Recipe) -> set[tuple[str, str]] | None:
    """(kind, role) of everything that the recipe stores on a grid whose scales `clip` chooses; None where that is not known."""
    bits, infos = recipe.technique_in("bits"), blueprint(recipe)
    if bits is None or not infos:
        return None
    grids = ((info, bits.build(recipe.shape)(info)) for info in infos)
    return {(info.kind, info.role) for info, grid in grids if grid is not None and grid.largest > 1}


class Finer(NamedTuple):
    """Columns of a matrix that are rounded on a grid of their own.

    Attributes:
        columns: which, from a start to a stop.
        scales: (rows,) their scales as they are stored.
        grid: their integers' range.
    """

    columns: slice
    scales: Tensor
    grid: Grid


class ToRound(NamedTuple):
    """A matrix that a technique in the slot ``rounding`` turns into integers.

    Attributes:
        weight: (rows, columns) float32.
        scales: (rows,) its steps, fixed beforehand.
        grid: the integers allowed.
        info: what the parameter is.
        hessian: (columns, columns) mean of x xᵀ over calibration inputs, or None.
        keep: (rows, columns) mask of the weights that may be other than zero; None keeps all.
        finer: columns with scales and a grid of their own.
    """

    weight: Tensor
    scales: Tensor
    grid: Grid
    info: ParameterInfo
    hessian: Tensor | None = None
    keep: Tensor | None = None
    finer: tuple[Finer, ...] = ()


class Pruned(NamedTuple):
    """What a `prune` technique returns.

    Attributes:
        weight: (rows, columns), zeros where pruned before rounding.
        during: mask of the weights that rounding may make other than zero, or None. Without it, an error that is fed forward
            may fill a pruned place again.
        after: mask of the integers that are kept after rounding, or None.
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
        added: what is stored beside a matrix and added to it.
    """

    info: ParameterInfo
    grid: Grid | None
    values: Tensor
    scales: Tensor | None
    added: tuple[Addition, ...] = ()

    def dequantised(self) -> Tensor:
        """The float32 tensor that is read back from the packed file."""
        if self.scales is None:
            return self.values.float()
        weight = self.values.float() * self.scales.float()[:, None]
        for addition in self.added:
            weight = addition.added_to(weight)
        return weight


def stored_scales(scales: Tensor) -> Tensor:
    """Scales (rows,) as the file will hold them: rounded to fp16 (so rounding sees the true step), never zero."""
    return scales.float().clamp(SMALLEST_SCALE, LARGEST_FLOAT).half().float()


def ternary_scales(weight: Tensor) -> Tensor:
    """Mean of |w| per row, (rows,): the scale ternary weights are trained with (Q11, #211)."""
    return weight.abs().mean(dim=1)


def with_values(q: Quantised, values: Tensor) -> Quantised:
    """The same parameter with other integers, clamped into its grid."""
    assert q.grid is not None
    return replace(q, values=values.clamp(q.grid.lowest, q.grid.largest).to(torch.int8))
