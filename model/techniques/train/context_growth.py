"""Training sequences that become longer during the run."""

from __future__ import annotations

from dataclasses import dataclass

from golflab.model.recipe import Recipe
from golflab.model.shape import Shape
from golflab.model.technique import Technique, knob


@dataclass(frozen=True)
class Growth:
    """What the training loop asks: how long sequences are, and by what the learning rates are multiplied.

    Attributes:
        stages: (progress from which it holds, positions), the first from 0 on; no two neighbours have the same positions.
        warm: share of the run in which the learning rates rise again after a change.
    """

    stages: tuple[tuple[float, int], ...]
    warm: float

    @property
    def lengths(self) -> list[int]:
        """All lengths, in the order in which they are used."""
        return [length for _, length in self.stages]

    def length(self, progress: float) -> int:
        """Positions of a training sequence at this share of the run."""
        return next(length for begin, length in reversed(self.stages) if progress >= begin)

    def factor(self, progress: float) -> float:
        """1, or (progress − change)/warm in the time ``warm`` after a change."""
        change = max((begin for begin, _ in self.stages[1:] if progress >= begin), default=-1.0)
        return min(1.0, (progress - change) / self.warm) if self.warm > 0 else 1.0


@dataclass(frozen=True)
class ContextGrowth(Technique):
    """Train on sequences of ``first``·T positions, then on ``middle``·T, then on all T, with as many tokens in every step.

    The rows of a batch, T tokens each, are cut into sequences of that length; what is left of a row is a shorter sequence.
    The middle begins at the share ``middle_from`` of the run, the whole at ``full_from``. After each change the learning rates
    are multiplied by a factor that rises linearly from 0 to 1 over the share ``warm`` of the run; switches that wait for a low
    rate (late quantisation, averages) see the rate without that factor. #2014: 1,024, 2,048 and 3,072 of T = 3,072, changes at
    0.1 and 0.7, 32 of about 4,950 steps.

    Attributes:
        first: share of T at the beginning.
        middle: share of T in the middle.
        middle_from: share of the run at which the middle begins.
        full_from: share of the run at which sequences have T positions.
        warm: share of the run in which the learning rates rise after a change.
    """

    slot = "growth"
    sources = ("#2014",)
    doubt = (
        "−0.0017 bpb before quantisation, −0.0010 in the end (3 seeds against 3), together with a longer evaluation context."
    )

    first: float = knob(1 / 3, 0.02, 1.0)
    middle: float = knob(2 / 3, 0.02, 1.0)
    middle_from: float = knob(0.1, 0.0, 1.0)
    full_from: float = knob(0.7, 0.0, 1.0)
    warm: float = knob(0.0065, 0.0, 0.3)

    def build(self, shape: Shape, layer: int | None = None) -> Growth:
        """Return the lengths and the factors of the learning rates."""
        stages: list[tuple[float, int]] = []
        for begin, share in ((0.0, self.first), (self.middle_from, self.middle), (self.full_from, 1.0)):
            length = max(1, round(share * shape.context))
            if stages and stages[-1][0] == begin:
                stages.pop()  # it would hold for no time
            if not stages or stages[-1][1] != length:
                stages.append((begin, length))
        return Growth(tuple(stages), self.warm)

    def check(self, recipe: Recipe) -> str | None:
        """The middle must not begin after the whole."""
        if self.middle_from > self.full_from:
            return f"middle_from={self.middle_from} is later than full_from={self.full_from}; it must be at most that."
        return None
