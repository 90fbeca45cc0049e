"""Scores windows of a text with a model: which inputs are read at once, and the nats of each target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from golflab.model.evaluation.windows import alike
from golflab.model.network.gpt import GPT
from golflab.model.network.kernels import LOSS_ROWS

# logits (r,t,V), inputs (r,t) int64 on the CPU, their targets (r,t) -> a number for every target (r,t)
Side = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Text:
    """A text as the evaluator sees it: documents one after another, each beginning with BOS.

    Attributes:
        tokens: (N,) int64.
        begins: positions of BOS.
        weights: (N-1,) int64, bytes the target of every input stands for.
    """

    tokens: np.ndarray
    begins: np.ndarray
    weights: np.ndarray

    @property
    def inputs(self) -> int:
        """Number of inputs, which is the number of targets: N-1."""
        return max(0, len(self.tokens) - 1)


class Scored(NamedTuple):
    """Scores of one stretch: inputs (n,) int64, nats of their targets (n,) float64, what a mixer asked for (n,) or None."""

    inputs: np.ndarray
    nats: np.ndarray
    side: np.ndarray | None


class Reader:
    """Scores windows of a text with the model as it is at that moment.

    Args:
        model: the language model.
        text: what is scored.
        temperature: logits (...,V) -> logits, or None.
        side: finds a second number for every target, for a mixer; see `Side`.
        batch_tokens: inputs read at once.
        probe: an input whose whole distribution is wanted; it is left in `probed` as (V,) float64 logarithms.
    """

    def __init__(
        self,
        model: GPT,
        text: Text,
        temperature: Callable[[Tensor], Tensor] | None = None,
        side: Side | None = None,
        batch_tokens: int = 8_192,
        probe: int | None = None,
    ) -> None:
        self.model, self.text, self.temperature, self.side = model, text, temperature, side
        self.batch_tokens, self.probe = batch_tokens, probe
        self.probed: np.ndarray | None = None
        self.device = next(model.parameters()).device

    def score(self, windows: np.ndarray) -> Scored:
        """Score what the windows (n,3) score, in batches of equal shape."""
        parts = []
        with torch.no_grad():
            for batch, length in alike(windows, self.batch_tokens):
                parts.append(self.settle(batch, *self.nats(batch, length)))
        return joined(parts)

    def nats(self, batch: np.ndarray, length: int) -> tuple[Tensor, Tensor | None]:
        """Nats, and what a mixer asks for, of the targets that windows score, from each one's first on: (n, width), float64.

        The head runs on a few positions at a time, and the last block only on those that score. Windows may begin to score at
        different offsets. Rows are then shifted to the left, and the end of a row has no meaning.
        """
        at = batch[:, :1] + np.arange(length)
        inside = np.minimum(at, self.text.inputs - 1)  # padding of a short window comes after everything that it scores
        ids = torch.from_numpy(self.text.tokens[inside]).to(self.device)
        targets = torch.from_numpy(self.text.tokens[inside + 1]).to(self.device)
        offsets = batch[:, 2] - batch[:, 0]
        offset = int(offsets.min())
        x, targets = self.model.hidden(ids, offset), targets[:, offset:]
        places = torch.from_numpy(inside[:, offset:])
        shape, cell = targets.shape, self._cell(batch, offset, targets.size(1))
        if self.model.output.delta is None:  # only corrections of the head per document use the documents
            x, targets, places = x.flatten(0, 1)[None], targets.flatten()[None], places.flatten()[None]
            cell = None if cell is None else (0, cell[0] * shape[1] + cell[1])
        step = max(1, LOSS_ROWS // len(x))
        nats, sides = [], []
        for first in range(0, x.size(1), step):
            logits = self.model.head(x[:, first : first + step])  # (n, step, V), or (1, step, V)
            logits = logits if self.temperature is None else self.temperature(logits)
            nats.append(_charged(logits, targets[:, first : first + step]))
            if self.side is not None:
                with torch.no_grad():
                    sides.append(self.side(logits, places[:, first : first + step], targets[:, first : first + step]))
            if cell is not None and first <= cell[1] < first + step:
                self.probed = logits[cell[0], cell[1] - first].detach().double().log_softmax(-1).cpu().numpy()
        found = [torch.cat(nats, 1).view(shape), *([torch.cat(sides, 1).view(shape)] if sides else [])]
        if (offsets > offset).any():
            columns = torch.from_numpy(offsets[:, None] - offset + np.arange(shape[1])).clamp(max=shape[1] - 1).to(self.device)
            found = [values.gather(1, columns) for values in found]
        return found[0], found[1] if sides else None

    def _cell(self, batch: np.ndarray, offset: int, width: int) -> tuple[int, int] | None:
        """Where among these positions (n, width) the probed input is scored, if it is."""
        if self.probe is None:
            return None
        columns = self.probe - batch[:, 0] - offset
        rows = np.flatnonzero((batch[:, 2] <= self.probe) & (self.probe < batch[:, 1]) & (columns >= 0) & (columns < width))
        return (int(rows[0]), int(columns[rows[0]])) if len(rows) else None

    @staticmethod
    def settle(batch: np.ndarray, nats: Tensor, side: Tensor | None) -> Scored:
        """Keep what the windows score and drop what pads them."""
        at = batch[:, 2:] + np.arange(nats.size(1))
        real = at < batch[:, 1:2]
        cpu = nats.detach().cpu().numpy()
        return Scored(at[real], cpu[real], None if side is None else side.double().cpu().numpy()[real])


def joined(parts: list[Scored]) -> Scored:
    """Put scores one after another."""
    sides = [part.side for part in parts if part.side is not None]
    inputs, nats = (np.concatenate(found) for found in zip(*((p.inputs, p.nats) for p in parts), strict=True))
    return Scored(inputs, nats, np.concatenate(sides) if sides else None)


def _charged(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats of the targets (n,t) under logits (n,t,V), float64.

    Float32 logarithms would be wrong by about 4e-9 of the total, all in one direction. Here the error is 1e-10.
    """
    top = logits.detach().amax(-1)
    mass = (logits - top[..., None]).exp().sum(-1, dtype=torch.float64)
    return mass.log() + (top.double() - logits.gather(-1, targets[..., None]).squeeze(-1).double())
