"""The power of an audit: the share of positions tested, and the probability to find a cheat at one position in k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SPARSE = (10, 100, 1000)  # a cheat acts at one position in so many


@dataclass(frozen=True)
class Power:
    """How much was tested.

    Attributes:
        positions: number tested, in any text; None where the test is not about positions.
        of: positions of the whole text.
        whole: different positions tested in the whole text; only there a cheat is found that acts late or in long texts only.
        note: what else limits the experiment.
    """

    positions: int | None
    of: int
    whole: int = 0
    note: str = ""

    def seen(self, k: int, positions: int | None = None) -> float:
        """Probability that at least one tested position is one of a cheat's, which acts at one in ``k``, drawn at random.

        Args:
            k: a cheat acts at one position in so many.
            positions: tested; all by default.
        """
        if self.whole >= self.of:
            return 1.0
        return 1 - (1 - 1 / k) ** ((self.positions or 0) if positions is None else positions)

    def to_json(self) -> dict[str, Any]:
        """What `golflab audit --json` prints."""
        body: dict[str, Any] = {"told": str(self)}
        if self.positions is not None:
            body |= {"positions": self.positions, "of": self.of, "share": self.whole / max(1, self.of)}
            body |= {"seen": {str(k): self.seen(k) for k in SPARSE}}
            body |= {"whole_text": {"positions": self.whole, "seen": {str(k): self.seen(k, self.whole) for k in SPARSE}}}
        return body

    def __str__(self) -> str:
        if self.positions is None:
            return self.note
        if self.whole >= self.of:
            return "; ".join(filter(None, [f"all {self.of:,} positions", self.note]))
        if not self.positions:
            return self.note or "nothing was tested"
        share, chances = self.whole / max(1, self.of), self._chances(self.positions)
        said = f"{self.positions:,} positions tested, {self.whole:,} of them in the whole text ({share:.1%} of it); "
        said += f"a cheat at one in 10, 100, 1000 is seen with probability {chances}"
        if self.whole < self.positions:
            said += f", one that acts in the whole text only with {self._chances(self.whole)}"
        return f"{said}; {self.note}" if self.note else said

    def _chances(self, positions: int) -> str:
        return ", ".join(f"{self.seen(k, positions):.2f}" for k in SPARSE)
