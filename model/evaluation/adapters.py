"""Adapters score a text stretch by stretch, and may learn from each stretch before they score the next.

`Adapter` itself learns nothing; techniques in the slot `adapt` build subclasses of it. In all of them a target is scored once,
before anything learns from it, and the model's weights are restored at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from golflab.model.evaluation.reader import Reader, Scored
from golflab.model.evaluation.windows import rounds
from golflab.model.network.gpt import GPT

CHUNK = 32_768  # inputs in a stretch; between two stretches it may learn, save and report


class Adapter:
    """Scores stretches of `chunk` inputs and learns nothing between them.

    Attributes:
        announces: whether scores depend on documents that come later in the text, but earlier in the order of `queue`.
    """

    chunk = CHUNK
    announces = False

    def queue(self, lengths: np.ndarray) -> np.ndarray:
        """Numbers of the documents in the order in which they are scored, from the inputs of each: (documents,)."""
        return np.arange(len(lengths))

    def walk(self, reader: Reader, plan: np.ndarray, skip: int = 0, state: dict[str, Tensor] | None = None) -> Iterator[Scored]:
        """Score the text stretch by stretch.

        Args:
            reader: the model and the text.
            plan: (windows, 3), see `golflab.model.evaluation.windows`.
            skip: stretches that an earlier, interrupted evaluation has already scored.
            state: the return value of `state` after them.
        """
        for windows in rounds(plan, self.chunk)[skip:]:
            yield reader.score(windows)

    def state(self) -> dict[str, Tensor]:
        """What the next stretch depends on besides the model and the text, to continue after an interruption."""
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
            loss = (reader.model.nats(ids, targets, training=True) * weights).sum() / weights.sum().clamp(min=1)
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
        """Use the averaged weights while scoring."""
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
        """Weights that learn, their average, and the optimizer's tensors, each under its number."""
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
    """Let only ``learning`` learn; restore values, gradients and ``requires_grad`` of all parameters afterwards."""
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
