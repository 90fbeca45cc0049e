"""Depth recurrence: some blocks run more than once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from golflab.model.network.layers import Scale
from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Knob, Technique, knob

DECAY_START = -4.0  # log A at the start: what comes back into the segment is multiplied by 0.99


class Injection(nn.Module):
    """x ← ā⊙x + b̄⊙x0 with ā = exp(−Δ·A) and b̄ = Δ·b, Δ = softplus(δ), A = exp(log A); rows δ, log A and b of (3,D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = Scale((3, width), [[0.0], [DECAY_START], [0.0]])

    def forward(self, x: Tensor, x0: Tensor) -> Tensor:
        """x, x0 (B,T,D) -> x."""
        delta, log_rate, gain = self.weight(x.dtype)
        step = F.softplus(delta)
        return (-step * log_rate.exp()).exp() * x + step * gain * x0


class Blend(nn.Module):
    """x ← β_l·x + Σ_j α_lj·x_j over the layers j of the segment, β from 1, α from 0."""

    def __init__(self, segment: list[int]) -> None:
        super().__init__()
        self.segment = segment
        self.own, self.others = Scale((len(segment),), 1.0), Scale((len(segment), len(segment)), 0.0)

    def forward(self, x: Tensor, layer: int, latest: dict[int, Tensor]) -> Tensor:
        """A block's output x (B,T,D), and the latest output of each layer so far -> x."""
        row = self.segment.index(layer)
        shares, out = self.others(x.dtype)[row], self.own(x.dtype)[row] * x
        for column, other in enumerate(self.segment):
            if other in latest:
                out = out + shares[column] * latest[other][..., -x.size(-2) :, :]  # the last block may omit positions
        return out


class Path(nn.Module):
    """Which blocks run, in which order, and when that changes in the training.

    Attributes:
        stages: (share of the run from which it holds, blocks in their order, how many of the steps skips span), the first
            from 0 on.
        injection: what acts where the segment begins anew, or None.
        blend: what acts behind every block that has run before, or None.
    """

    def __init__(
        self, stages: tuple[tuple[float, list[int], int], ...], injection: Injection | None = None, blend: Blend | None = None
    ) -> None:
        super().__init__()
        self.stages, self.injection, self.blend = stages, injection, blend

    def before(self, x: Tensor, x0: Tensor, order: list[int], step: int) -> Tensor:
        """What the block of a step reads: x, x0 (B,T,D) -> x."""
        layer = order[step]
        if self.injection is None or layer not in order[:step] or order[step - 1] == layer - 1:
            return x
        return self.injection(x, x0)

    def after(self, x: Tensor, outputs: list[Tensor], order: list[int], step: int) -> Tensor:
        """What a step leaves, from its block's output x and all steps' before it: (B,T,D) -> x."""
        if self.blend is None or order[step] not in order[:step]:
            return x
        return self.blend(x, order[step], dict(zip(order[:step], outputs, strict=True)))

    @property
    def span(self) -> int:
        """Steps that skips span in the end, which is the most."""
        return self.stages[-1][2]

    @property
    def changes(self) -> list[float]:
        """Shares of the run at which the order changes."""
        return [begin for begin, _, _ in self.stages[1:]]

    def forward(self, progress: float) -> tuple[list[int], int]:
        """Progress in [0, 1] -> the blocks in their order, and how many of the steps skips span."""
        return next((order, span) for begin, order, span in reversed(self.stages) if progress >= begin)


@dataclass(frozen=True)
class DepthRecurrence(Technique):
    """Runs layers ``first`` to ``final`` ``times`` times, for more depth without more bytes.

    ``tail``: after all layers, the segment again on the final stream, without skips (#1499). ``inline``: the segment repeats
    where it is, 0 1 2 (3 4 5)(3 4 5) 6 …, with skips between the halves of that list of steps (#1394, #1493, #1204).
    ``each``: every layer of the segment repeats by itself, 3 3 4 4 5 5. It switches on at the share ``begin`` of the run. The
    rounding errors of a block act every time it runs.

    ``growth``: all passes are there ``at_once``. In ``steps`` one is added at a time, the first at ``begin`` and the last at
    ``full`` (#1412: two more passes, at 0.5 and 0.65). In ``thirds`` the rest of the run behind ``begin`` has one pass, then
    ``times`` - 1, then ``times``, for equal parts of it (#1756: 1, 3, 4). Scoring always uses all of them.

    ``inject``: where the segment begins anew, x ← ā⊙x + b̄⊙x0 with ā = exp(−Δ·A), b̄ = Δ·b, Δ = softplus(δ) and three learned
    vectors δ, log A and b (#1728). ``blend``: in later passes a layer leaves β_l·block(x) + Σ_j α_lj·x_j, x_j being the latest
    outputs of the segment's layers (#1779). Both begin, nearly or exactly, as if they were not there.
    """

    slot = "path"
    sources = ("PR #1499", "PR #1204", "PR #1394", "PR #1493", "PR #363", "PR #1412", "PR #1728", "PR #1756", "PR #1779")
    doubt = (
        "−0.002 to −0.003 bpb if a few layers repeat. Repeating the whole model cost 0.025 to 0.044 bpb (#363, #1449). Passes "
        "that are added in thirds: −0.0004 (#1756, 3 seeds against 3). The blend: −0.0009, with other changes (#1779). What is "
        "published about the injection does not say how it starts nor what b̄ is; both are chosen here."
    )

    first: int = knob(3, 0, 63)
    final: int = knob(5, 0, 63)
    times: int = knob(2, 2, 4)
    mode: str = knob("tail", choices=("tail", "inline", "each"))
    begin: float = knob(0.0, 0.0, 0.95)
    growth: str = knob("at_once", choices=("at_once", "steps", "thirds"), later=True)
    full: float = knob(0.65, 0.05, 0.95, later=True)
    inject: bool = knob(False, choices=(False, True), later=True)
    blend: bool = knob(False, choices=(False, True), later=True)

    def build(self, shape: Shape, layer: int | None = None) -> Path:
        """The order, and what acts between blocks."""
        passes = {0.0: 1} | self._passes()  # a change at 0 replaces the first
        stages = tuple((begin, *self._order(shape.layers, count)) for begin, count in passes.items())
        blend = Blend(list(range(self.first, self.final + 1))) if self.blend else None
        return Path(stages, Injection(shape.width) if self.inject else None, blend)

    def _passes(self) -> dict[float, int]:
        """Share of the run -> passes from there on, where it changes."""
        if self.growth == "steps":
            gap = (self.full - self.begin) / max(1, self.times - 2)
            return {self.begin + gap * k: k + 2 for k in range(self.times - 1)}
        if self.growth == "thirds":
            third = (1 - self.begin) / 3
            return {self.begin + third: self.times - 1, self.begin + 2 * third: self.times}
        return {self.begin: self.times}

    def _order(self, layers: int, passes: int) -> tuple[list[int], int]:
        """The blocks with so many passes of the segment, and how many of the steps skips span."""
        plain, segment = list(range(layers)), list(range(self.first, self.final + 1))
        again = segment * (passes - 1)
        if self.mode == "tail":
            return plain + again, layers
        if self.mode == "inline":
            order = plain[: self.final + 1] + again + plain[self.final + 1 :]
        else:
            order = [i for i in plain for _ in range(passes if i in segment else 1)]
        return order, len(order)

    def check(self, recipe: Recipe) -> str | None:
        """The segment must lie inside the model."""
        if not self.first <= self.final < recipe.shape.layers:
            return f"layers {self.first} to {self.final} must lie between 0 and {recipe.shape.layers - 1}, in this order."
        return None

    def canonical(self, recipe: Recipe) -> Technique:
        """Forms that run the blocks in the same order become one form, and growth that adds all passes at once is none."""
        mode = "inline" if self.mode == "each" and self.first == self.final else self.mode
        if mode == "inline" and self.final == recipe.shape.layers - 1 and recipe.technique_in("skips") is None:
            mode = "tail"
        settled = self._with(mode=mode)
        if settled.growth == "steps" and (settled.times == 2 or settled.full <= settled.begin):
            settled = settled._without("growth")
        return settled if settled.growth == "steps" else settled._without("full")

    @classmethod
    def ranges(cls, bare: Recipe) -> dict[str, Knob]:
        """The segment lies inside the model."""
        return super().ranges(bare) | dict.fromkeys(("first", "final"), Knob(0, max(1, min(63, bare.shape.layers - 1))))

    def rescale(self, old: Shape, new: Shape) -> DepthRecurrence:
        """Keep the segment at the same relative depth, at least one layer long."""
        first = min(new.layers - 1, round(self.first * new.layers / old.layers))
        count = max(1, round((self.final - self.first + 1) * new.layers / old.layers))
        return dataclasses.replace(self, first=first, final=min(new.layers - 1, first + count - 1))
