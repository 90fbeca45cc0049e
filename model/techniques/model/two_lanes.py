"""Two lanes: in the last layers attention and MLP each have a stream of their own, coupled by learned weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golflab.model.network.gpt import Block
from golflab.model.network.layers import Scale
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob

Skips = Callable[[Tensor, list[Tensor], int, int], Tensor]  # what fills the slot `skips`


class Lanes(nn.Module):
    """The module that `TwoLanes` builds for one layer.

    Attributes:
        enters: whether it mixes x0 in itself, because only the first lane's reader sees it.
    """

    def __init__(self, technique: TwoLanes) -> None:
        super().__init__()
        self.simultaneous = technique.form == "simultaneous"
        self.enters, self.skips_into_first = technique.x0 == "first", technique.skips == "first"
        self.keep = Scale((2,), 1.1 if self.simultaneous else 1.1**0.5)  # a factor per lane, or per branch
        self.give = Scale((2, 2), 1.0)  # (branch, lane)

    @property
    def into_lanes(self) -> Callable[[Skips], Skips] | None:
        """Turns skips into skips that leave the second lane alone; None where both lanes take them in."""
        return _first_lane_only if self.skips_into_first else None

    def forward(
        self, block: Block, x: Tensor, x0: Tensor, extra: Tensor | None, first: Tensor | None, start: int
    ) -> tuple[Tensor, Tensor]:
        """The stream (B,T,D), or its lanes (2,B,T,D) -> lanes (2,B,T-start,D) and the block's values."""
        lanes = _lanes(x)
        read = block.enter(lanes[0], x0) if self.enters and block.enter is not None else lanes[0]
        keep, give = self.keep(x.dtype).view(2, 1, 1, 1), self.give(x.dtype).view(2, 2, 1, 1, 1)
        attended, values = block.attention_branch(read, extra, first, start)
        lanes = lanes[:, :, start:]
        if self.simultaneous:
            return keep * lanes + give[0] * attended + give[1] * block.mlp_branch(lanes[1]), values
        lanes = keep[0] * lanes + give[0] * attended
        return keep[1] * lanes + give[1] * block.mlp_branch(lanes[1]), values


class Unread(nn.Module):
    """The scalars of `Lanes` in a layer of one stream, where nothing reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.keep, self.give = Scale((2,), 1.1), Scale((2, 2), 1.0)

    def forward(
        self, block: Block, x: Tensor, x0: Tensor, extra: Tensor | None, first: Tensor | None, start: int
    ) -> tuple[Tensor, Tensor]:
        """One branch after the other, as without it."""
        return block.in_turn(x, extra, first, start)


def _lanes(x: Tensor) -> Tensor:
    """(B,T,D), the stream before it splits, or (2,B,T,D) -> (2,B,T,D)."""
    return x if x.dim() == 4 else torch.stack([x, x])


def _first_lane_only(skips: Skips) -> Skips:
    """The skips between first lanes; the second lane stays as it is."""

    def skip(x: Tensor, outputs: list[Tensor], step: int, span: int) -> Tensor:
        firsts = [out[0] if out.dim() == 4 else out for out in outputs]
        lanes = _lanes(x)
        return torch.stack([skips(lanes[0], firsts, step, span), lanes[1]])

    return skip


@dataclass(frozen=True)
class TwoLanes(Technique):
    """Splits the stream in two for the last ``last`` layers: attention reads one lane, the MLP the other.

    The lanes a and b start as copies of the stream, and their mean is the final state. p (branch, lane) starts at 1.

    * ``sequential`` (#1204): lane_i ← r·lane_i + p_i·out after each branch, r per branch from √1.1.
    * ``simultaneous`` (#1529, #1855): attention reads a, the MLP reads b, and only then a ← r₀a + p₀₀·A + p₁₀·M and
      b ← r₁b + p₀₁·A + p₁₁·M, r per lane from 1.1.

    ``skips``: which lanes the skips go to. ``x0``: ``both`` lanes are mixed with x0 and keep the mix, or only what attention
    reads is mixed (``first``). ``spare`` keeps the scalars of all layers below, which nothing reads, as the records' files do.
    """

    slot = "wiring"
    sources = ("PR #1204", "PR #1529", "PR #1855")
    doubt = "−0.0022 bpb in a single sample (#1204); simultaneous about −0.002 (#1529), with other changes at once."
    clashes = {"wavelet_mixer": "the mixer sits between attention and MLP of one stream, and here there are two."}

    last: int = knob(4, 1, 64)
    form: str = knob("sequential", choices=("sequential", "simultaneous"), later=True)
    skips: str = knob("both", choices=("both", "first"), later=True)
    x0: str = knob("both", choices=("both", "first"), later=True)
    spare: bool = knob(False, choices=(False, True), faults=(True,), later=True)

    def build(self, shape: Shape, layer: int | None = None) -> Lanes | Unread | None:
        """The wiring of one block; None below the last ``last`` layers, or scalars that nothing reads."""
        assert layer is not None
        if layer >= shape.layers - self.last:
            return Lanes(self)
        return Unread() if self.spare else None

    def check(self, recipe: Recipe) -> str | None:
        """Once the stream is split, no layer of one stream can follow."""
        path, split = recipe.technique_in("path"), max(0, recipe.shape.layers - self.last)
        order = [] if path is None or path.check(recipe) else path.build(recipe.shape)(1.0)[0]
        if split in order and min(order[order.index(split) :]) < split:
            return f"the recurrence runs layers below {split} after the lanes began there; loop only layers from {split} on."
        return None

    def canonical(self, recipe: Recipe) -> Technique:
        """A ``last`` beyond the number of layers means all layers. What a recipe does not have goes to no lane."""
        settled = self._with(last=min(self.last, recipe.shape.layers))
        if settled.last == recipe.shape.layers:
            settled = settled._without("spare")
        unread = [name for name, slot in (("skips", "skips"), ("x0", "enter")) if not recipe.techniques_in(slot)]
        return settled._without(*unread)

    def rescale(self, old: Shape, new: Shape) -> TwoLanes:
        """The same share of the layers."""
        return dataclasses.replace(self, last=max(1, round(self.last * new.layers / old.layers)))
