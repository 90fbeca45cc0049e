"""How a text is walked through: score a stretch, perhaps learn from it, score the next.

`Adapter` is the plain walk, which learns nothing; techniques in the slot `adapt` build subclasses of it. Whatever they
do, a target is scored once, before anything learns from it, and the model is given back as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from model.gpt import GPT
from model.kernels import LOSS_ROWS
from model.windows import alike, rounds

CHUNK = 32_768  # inputs scored between two chances to learn, to save and to report


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
    """What one stretch was worth: inputs (n,) int64, nats of their targets (n,) float64, entropies (n,) or None."""

    inputs: np.ndarray
    nats: np.ndarray
    entropy: np.ndarray | None


class Reader:
    """Scores windows of a text with the model as it is at that moment.

    Args:
        model: the language model.
        text: what is scored.
        temperature: logits (...,V) -> logits, or None.
        entropy: whether the entropy of every prediction is wanted too.
        batch_tokens: inputs read at once.
        probe: an input whose whole distribution is wanted; it is left in `probed` as (V,) float64 logarithms.
    """

    def __init__(
        self,
        model: GPT,
        text: Text,
        temperature: Callable[[Tensor], Tensor] | None = None,
        entropy: bool = False,
        batch_tokens: int = 8_192,
        probe: int | None = None,
    ) -> None:
        self.model, self.text, self.temperature, self.entropy = model, text, temperature, entropy
        self.batch_tokens, self.probe = batch_tokens, probe
        self.probed: np.ndarray | None = None
        self.device = next(model.parameters()).device

    def score(self, windows: np.ndarray) -> Scored:
        """Score what the windows (n,3) score, in batches of equal shape."""
        parts = []
        with torch.no_grad():
            for batch, length in alike(windows, self.batch_tokens):
                nats, entropy = self.nats(batch, length)
                parts.append(self.settle(batch, nats, entropy))
        inputs, nats_, entropies = zip(*parts, strict=True)
        return Scored(np.concatenate(inputs), np.concatenate(nats_), np.concatenate(entropies) if self.entropy else None)

    def nats(self, batch: np.ndarray, length: int) -> tuple[Tensor, Tensor | None]:
        """Nats, and entropies if wanted, of the targets that the windows score, from each one's first on: (n, width), float64.

        The head runs on a few positions at a time, and the last block only on those that score. Windows may begin to score at
        different offsets: what is read from the smallest one on is then moved to the left, and the end of a row means nothing.
        """
        at = batch[:, :1] + np.arange(length)
        inside = np.minimum(at, self.text.inputs - 1)  # what pads a short window stands behind all it scores
        ids = torch.from_numpy(self.text.tokens[inside]).to(self.device)
        targets = torch.from_numpy(self.text.tokens[inside + 1]).to(self.device)
        offsets = batch[:, 2] - batch[:, 0]
        offset = int(offsets.min())
        x, targets = self.model.hidden(ids, offset), targets[:, offset:]
        shape, cell = targets.shape, self._cell(batch, offset, targets.size(1))
        if self.model.output.delta is None:  # only per-document corrections of the head need to know the documents
            x, targets = x.flatten(0, 1)[None], targets.flatten()[None]
            cell = None if cell is None else (0, cell[0] * shape[1] + cell[1])
        step = max(1, LOSS_ROWS // len(x))
        nats, entropies = [], []
        for first in range(0, x.size(1), step):
            logits = self.model.head(x[:, first : first + step])  # (n, step, V), or (1, step, V)
            logits = logits if self.temperature is None else self.temperature(logits)
            nats.append(_charged(logits, targets[:, first : first + step]))
            if self.entropy:
                logs = logits.log_softmax(-1)
                entropies.append(-(logs.exp() * logs).sum(-1))
            if cell is not None and first <= cell[1] < first + step:
                self.probed = logits[cell[0], cell[1] - first].detach().double().log_softmax(-1).cpu().numpy()
        found = [torch.cat(nats, 1).view(shape), *([torch.cat(entropies, 1).view(shape)] if self.entropy else [])]
        if (offsets > offset).any():
            columns = torch.from_numpy(offsets[:, None] - offset + np.arange(shape[1])).clamp(max=shape[1] - 1).to(self.device)
            found = [values.gather(1, columns) for values in found]
        return found[0], found[1] if self.entropy else None

    def _cell(self, batch: np.ndarray, offset: int, width: int) -> tuple[int, int] | None:
        """Where among these positions (n, width) the probed input is scored, if it is."""
        if self.probe is None:
            return None
        columns = self.probe - batch[:, 0] - offset
        rows = np.flatnonzero((batch[:, 2] <= self.probe) & (self.probe < batch[:, 1]) & (columns >= 0) & (columns < width))
        return (int(rows[0]), int(columns[rows[0]])) if len(rows) else None

    @staticmethod
    def settle(batch: np.ndarray, nats: Tensor, entropy: Tensor | None) -> Scored:
        """Keep what the windows score and drop what pads them."""
        at = batch[:, 2:] + np.arange(nats.size(1))
        real = at < batch[:, 1:2]
        cpu = nats.detach().cpu().numpy()
        return Scored(at[real], cpu[real], None if entropy is None else entropy.detach().double().cpu().numpy()[real])


def _charged(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats of the targets (n,t) under logits (n,t,V), float64.

    Float32 logarithms are off by about 4e-9 of the total, all in one direction; what is left of that here is 1e-10.
    """
    top = logits.detach().amax(-1)
    mass = (logits - top[..., None]).exp().sum(-1, dtype=torch.float64)
    return mass.log() + (top.double() - logits.gather(-1, targets[..., None]).squeeze(-1).double())


class Adapter:
    """The plain walk: stretches of `chunk` inputs, nothing learned between them."""

    chunk = CHUNK

    def walk(self, reader: Reader, plan: np.ndarray, skip: int = 0, state: dict[str, Tensor] | None = None) -> Iterator[Scored]:
        """Score the text stretch by stretch.

        Args:
            reader: the model and the text.
            plan: (windows, 3), see `model.windows`.
            skip: stretches an earlier, interrupted walk has already scored.
            state: what `state` returned after them.
        """
        for windows in rounds(plan, self.chunk)[skip:]:
            yield reader.score(windows)

    def state(self) -> dict[str, Tensor]:
        """What the next stretch depends on besides the model and the text, to go on after a crash."""
        return {}


class ChunkLearner(Adapter):
    """Score a chunk, then train on it for some epochs, then score the next: the score-first form of #549 and #849.

    Args:
        context: positions of a training sequence.
        chunk: inputs between two trainings.
        choose: model -> the parameters that learn.
        optimizer: parameters -> a PyTorch optimiser.
        rate: (chunk, chunks) -> learning rate.
        epochs: passes over a chunk.
        rows: sequences a step.
        clip: largest gradient norm.
        byte_weighted: weigh every target by the bytes it stands for.
        polyak: decay of the averaged copy that scores; 0 scores with the weights that train.
    """

    def __init__(
        self,
        *,
        context: int,
        chunk: int,
        choose: Callable[[GPT], list[nn.Parameter]],
        optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        rate: Callable[[int, int], float],
        epochs: int,
        rows: int,
        clip: float = 1.0,
        byte_weighted: bool = False,
        polyak: float = 0.0,
    ) -> None:
        self.context, self.chunk, self.choose, self.make_optimizer, self.rate = context, chunk, choose, optimizer, rate
        self.epochs, self.rows, self.clip, self.byte_weighted, self.polyak = epochs, rows, clip, byte_weighted, polyak

    def walk(self, reader: Reader, plan: np.ndarray, skip: int = 0, state: dict[str, Tensor] | None = None) -> Iterator[Scored]:
        """See `Adapter.walk`."""
        chunks = -(-reader.text.inputs // self.chunk)
        self.learning = self.choose(reader.model)
        with borrowed(reader.model, self.learning):
            self.optimizer = self.make_optimizer(self.learning)
            self.average = [p.detach().clone() for p in self.learning] if self.polyak else []
            self._load(state or {})
            for index, windows in enumerate(rounds(plan, self.chunk)):
                if index < skip:
                    continue
                with self._averaged():
                    scored = reader.score(windows)
                number = int(windows[0, 2]) // self.chunk
                if number < chunks - 1:
                    self._learn(reader, number, chunks)
                yield scored

    def _learn(self, reader: Reader, number: int, chunks: int) -> None:
        """Train on chunk ``number``, all of whose targets are scored by now."""
        first = number * self.chunk
        length = min(self.context, self.chunk)
        begins = first + length * np.arange(self.chunk // length)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(number, chunks)
        for _ in range(self.epochs):
            for start in range(0, len(begins), self.rows):
                self._step(reader, begins[start : start + self.rows], length)

    @torch.enable_grad()
    def _step(self, reader: Reader, begins: np.ndarray, length: int) -> None:
        at = begins[:, None] + np.arange(length)
        ids, targets = (torch.from_numpy(reader.text.tokens[at + shift]).to(reader.device) for shift in (0, 1))
        if self.byte_weighted:
            weights = torch.from_numpy(reader.text.weights[at]).to(reader.device).float()
            loss = (reader.model.nats(ids, targets) * weights).sum() / weights.sum().clamp(min=1)
        else:
            loss = reader.model(ids, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.learning, self.clip)
        self.optimizer.step()
        for mean, p in zip(self.average, self.learning, strict=False):
            mean.lerp_(p.detach(), 1 - self.polyak)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Put the averaged weights in for the time of scoring."""
        if not self.average:
            yield
            return
        raw = [p.detach().clone() for p in self.learning]
        _copy(self.average, self.learning)
        try:
            yield
        finally:
            _copy(raw, self.learning)

    def state(self) -> dict[str, Tensor]:
        """Learning weights, their average, and the optimiser's tensors, each under its number."""
        kept = {f"weight.{i}": p.detach() for i, p in enumerate(self.learning)}
        kept |= {f"average.{i}": mean for i, mean in enumerate(self.average)}
        for i, p in enumerate(self.learning):
            kept |= {f"optimizer.{i}.{key}": torch.as_tensor(value) for key, value in self.optimizer.state[p].items()}
        return {name: tensor.clone() for name, tensor in kept.items()}

    def _load(self, state: dict[str, Tensor]) -> None:
        for name, tensor in state.items():
            kind, number, *key = name.split(".")
            if kind == "optimizer":
                self.optimizer.state[self.learning[int(number)]][key[0]] = tensor.clone()
            else:
                _copy([tensor], [(self.learning if kind == "weight" else self.average)[int(number)]])


@contextmanager
def borrowed(model: nn.Module, learning: list[nn.Parameter]) -> Iterator[None]:
    """Let only ``learning`` learn, and put everything back afterwards: values, gradients and who may learn."""
    before = [(p, p.requires_grad) for p in model.parameters()]
    values = [p.detach().clone() for p in learning]
    try:
        for p, _ in before:
            p.requires_grad_(False)
        for p in learning:
            p.requires_grad_(True)
        yield
    finally:
        _copy(values, learning)
        for p, learns in before:
            p.requires_grad_(learns)
            p.grad = None


def _copy(source: list[Tensor], target: list[nn.Parameter] | list[Tensor]) -> None:
    with torch.no_grad():
        for old, new in zip(source, target, strict=True):
            new.copy_(old)
