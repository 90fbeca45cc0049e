"""Two lanes: in the last layers attention and MLP each have a stream of their own, coupled by learned weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golflab.model.network.gpt import Block
from golflab.model.network.layers import Scale
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


class Lanes(nn.Module):
    """The module that `TwoLanes` builds for one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.keep = Scale((2,), 1.1**0.5)  # one factor per branch, for both lanes
        self.give = Scale((2, 2), 1.0)  # (branch, lane)

    def forward(self, block: Block, x: Tensor, extra: Tensor | None, first: Tensor | None, start: int) -> tuple[Tensor, Tensor]:
        """The stream (B,T,D), or its lanes (2,B,T,D) -> lanes (2,B,T-start,D) and the block's values."""
        lanes = x if x.dim() == 4 else torch.stack([x, x])
        keep, give = self.keep(x.dtype), self.give(x.dtype).view(2, 2, 1, 1, 1)
        out, values = block.attention_branch(lanes[0], extra, first, start)
        lanes = keep[0] * lanes[:, :, start:] + give[0] * out
        return keep[1] * lanes + give[1] * block.mlp_branch(lanes[1]), values


@dataclass(frozen=True)
class TwoLanes(Technique):
    """Splits the stream in two for the last ``last`` layers: attention reads one lane, the MLP the other.

    lane_i ← r·lane_i + p_i·out after each branch, r from √1.1 and p (branch, lane) from 1, learned per layer; the lanes start
    as copies, are both mixed with x0 and fed by the skips, and their mean is the final state.
    """

    slot = "wiring"
    sources = ("PR #1204",)
    doubt = "−0.0022 bpb in a single sample on top of depth recurrence (#1204)."
    clashes = {"wavelet_mixer": "the mixer sits between attention and MLP of one stream, and here there are two."}

    last: int = knob(4, 1, 64)

    def build(self, shape: Shape, layer: int | None = None) -> Lanes | None:
        """The wiring of one block; None below the last ``last`` layers."""
        assert layer is not None
        return Lanes() if layer >= shape.layers - self.last else None

    def check(self, recipe: Recipe) -> str | None:
        """Once the stream is split, no layer of one stream can follow."""
        path, split = recipe.tenant("path"), max(0, recipe.shape.layers - self.last)
        order = [] if path is None or path.check(recipe) else path.build(recipe.shape)(1.0)[0]
        if split in order and min(order[order.index(split) :]) < split:
            return f"the recurrence runs layers below {split} after the lanes began there; loop only layers from {split} on."
        return None

    def canonical(self, recipe: Recipe) -> Technique:
        """A ``last`` beyond the number of layers means all layers."""
        return self._with(last=min(self.last, recipe.shape.layers))

    def rescale(self, old: Shape, new: Shape) -> TwoLanes:
        """The same share of the layers."""
        return dataclasses.replace(self, last=max(1, round(self.last * new.layers / old.layers)))
