"""Depth recurrence: some blocks run more than once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Knob, Technique, knob


@dataclass(frozen=True)
class Path:
    """Which blocks run, in which order; ``span`` is the largest number of steps that skips can span."""

    plain: list[int]
    looped: list[int]
    tail: int  # trailing steps without skips
    begin: float

    @property
    def span(self) -> int:
        """Steps that skips span once the recurrence is on."""
        return len(self.looped) - self.tail

    def __call__(self, progress: float) -> tuple[list[int], int]:
        """Progress in [0, 1] -> the blocks in their order, and how many of the steps skips span."""
        return (self.looped, self.span) if progress >= self.begin else (self.plain, len(self.plain))


@dataclass(frozen=True)
class DepthRecurrence(Technique):
    """Runs layers ``first`` to ``final`` ``times`` times, for more depth without more bytes.

    ``tail``: after all layers, the segment again on the final stream, without skips (#1499). ``inline``: the segment repeats
    where it is, 0 1 2 (3 4 5)(3 4 5) 6 …, with skips between the halves of that list of steps (#1394, #1493, #1204).
    ``each``: every layer of the segment repeats by itself, 3 3 4 4 5 5. It switches on at the share ``begin`` of the run. The
    rounding errors of a block act every time it runs.
    """

    slot = "path"
    sources = ("PR #1499", "PR #1204", "PR #1394", "PR #1493", "PR #363")
    doubt = "−0.002 to −0.003 bpb if a few layers repeat. Repeating the whole model cost 0.025 to 0.044 bpb (#363, #1449)."

    first: int = knob(3, 0, 63)
    final: int = knob(5, 0, 63)
    times: int = knob(2, 2, 4)
    mode: str = knob("tail", choices=("tail", "inline", "each"))
    begin: float = knob(0.0, 0.0, 0.95)

    def build(self, shape: Shape, layer: int | None = None) -> Path:
        """The order: progress -> blocks, span."""
        plain, segment = list(range(shape.layers)), list(range(self.first, self.final + 1))
        again = segment * (self.times - 1)
        if self.mode == "tail":
            return Path(plain, plain + again, len(again), self.begin)
        if self.mode == "inline":
            return Path(plain, plain[: self.final + 1] + again + plain[self.final + 1 :], 0, self.begin)
        each = [i for i in plain for _ in range(self.times if i in segment else 1)]
        return Path(plain, each, 0, self.begin)

    def check(self, recipe: Recipe) -> str | None:
        """The segment must lie inside the model."""
        if not self.first <= self.final < recipe.shape.layers:
            return f"layers {self.first} to {self.final} must lie between 0 and {recipe.shape.layers - 1}, in this order."
        return None

    def canonical(self, recipe: Recipe) -> Technique:
        """Forms that run the blocks in the same order become one form."""
        mode = "inline" if self.mode == "each" and self.first == self.final else self.mode
        if mode == "inline" and self.final == recipe.shape.layers - 1 and recipe.technique_in("skips") is None:
            mode = "tail"
        return self._with(mode=mode)

    @classmethod
    def ranges(cls, bare: Recipe) -> dict[str, Knob]:
        """The segment lies inside the model."""
        return super().ranges(bare) | dict.fromkeys(("first", "final"), Knob(0, max(1, min(63, bare.shape.layers - 1))))

    def rescale(self, old: Shape, new: Shape) -> DepthRecurrence:
        """Keep the segment at the same relative depth, at least one layer long."""
        first = min(new.layers - 1, round(self.first * new.layers / old.layers))
        count = max(1, round((self.final - self.first + 1) * new.layers / old.layers))
        return dataclasses.replace(self, first=first, final=min(new.layers - 1, first + count - 1))
