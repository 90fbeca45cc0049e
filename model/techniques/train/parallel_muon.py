"""Parallel Muon: every process orthogonalises its share of the matrices while the others' gradients travel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from golflab.model.shape import Shape
from golflab.model.technique import knob
from golflab.model.training import process_group
from golflab.model.training.muon_knobs import MuonKnobs
from golflab.model.training.optimizers import Muon as MuonUpdate


class ShardedMuon(MuonUpdate):
    """Muon over stacks of equal matrices, sharded along the stack.

    After the backward pass a reduce-scatter per stack, largest first, gives each process the mean gradient of its share;
    Adam steps meanwhile; then each share is orthogonalised and gathered while the next one is computed. On one process it is
    plain Muon.

    Attributes:
        reduces: the parameters whose gradients it averages over the processes. Emptied by `Optimizers` where the recipe
            clips gradients: the clip needs them averaged, so the training loop does it before, and only the
            orthogonalisation is shared out.
    """

    def __init__(self, named: list[tuple[str, nn.Parameter]], half: bool, **knobs: object) -> None:
        super().__init__(named, **knobs)  # type: ignore[arg-type]
        self.rank, self.world = process_group.rank_and_size()
        self.groups.sort(key=lambda g: -g.momentum.numel())
        self.share = [-(-len(g.parameters) // self.world) for g in self.groups]  # matrices per process, the last padded
        self.travelling: list[tuple[Tensor, object]] = []
        if half:
            for group in self.groups:
                group.momentum = group.momentum.bfloat16()
        self.reduces: list[Tensor] = [p for g in self.groups for p in g.parameters] if self.world > 1 else []

    def begin(self) -> None:
        """Start the reduce-scatter of every stack, where the averaging is left to this optimiser."""
        self.travelling = []
        for group, share in zip(self.groups, self.share, strict=True) if self.reduces else ():
            stack = _padded(_gradients(group.parameters), share * self.world)
            mine = stack.new_empty(share, *stack.shape[1:])
            self.travelling.append((mine, dist.reduce_scatter_tensor(mine, stack, async_op=True)))

    @torch.no_grad()
    def step(self, multiplier: float, progress: float) -> None:
        """Update every matrix that has a gradient; the others keep weights and momentum as they are."""
        if self.world == 1:
            super().step(multiplier, progress)
            return
        mu, rate, decay = self.momentum_at(progress), self.lr * multiplier, self.decay_at(progress)
        gathering = []
        for index, (group, share) in enumerate(zip(self.groups, self.share, strict=True)):
            direction = _padded(self._share(index, mu), share)
            whole = direction.new_empty(share * self.world, *direction.shape[1:])
            gathering.append((group.parameters, whole, dist.all_gather_into_tensor(whole, direction, async_op=True)))
        for parameters, whole, arrival in gathering:
            arrival.wait()
            live = [i for i, p in enumerate(parameters) if p.grad is not None]
            if live:
                self._apply([parameters[i] for i in live], whole[: len(parameters)][live], rate, decay)

    def _share(self, index: int, mu: float) -> Tensor:
        """This process's share of a group, at most ``share`` matrices, as directions; its momentum moves on."""
        group, share = self.groups[index], self.share[index]
        begin = min(self.rank * share, len(group.parameters))
        parameters = group.parameters[begin : begin + share]
        if self.reduces:
            gradient, arrival = self.travelling[index]
            arrival.wait()  # type: ignore[attr-defined]
            gradient = gradient[: len(parameters)] / self.world
        else:
            gradient = _gradients(parameters) if parameters else group.momentum.new_empty(0, *group.momentum.shape[1:]).float()
        live = [i for i, p in enumerate(parameters) if p.grad is not None]
        buffer = group.momentum[begin : begin + share]
        buffer[live] = buffer[live].mul_(mu).add_(gradient[live])
        return self._direction(gradient + mu * buffer.to(gradient.dtype)) if parameters else gradient

    def state(self) -> dict[str, Tensor]:
        """Momentum by parameter name; each process sends its share to all, so that any of them can write it."""
        if self.world > 1:
            for group, share in zip(self.groups, self.share, strict=True):
                for owner in range(self.world):
                    part = group.momentum[owner * share : (owner + 1) * share]
                    if len(part):
                        dist.broadcast(part, owner)
        return super().state()


def _gradients(parameters: list[Tensor]) -> Tensor:
    """Stacked gradients (count, rows, columns), zero where there is none."""
    return torch.stack([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters])


def _padded(stack: Tensor, count: int) -> Tensor:
    """Zeros behind ``stack`` (fewer, rows, columns) -> (count, rows, columns)."""
    return torch.cat([stack, stack.new_zeros(count - len(stack), *stack.shape[1:])])


@dataclass(frozen=True)
class ParallelMuon(MuonKnobs):
    """Shards Muon over the processes and overlaps its communication with its computation.

    The same update and knobs as `muon`; with ``half`` the momentum is kept in bfloat16, as published. Where the recipe clips
    gradients, they are averaged before they are clipped, so that every process clips by the same norm, and only the
    orthogonalisation is shared out. (#549 and #680 clip each process's own gradients of the matrices by its own norm, which
    lets tables and scales drift apart.)
    """

    sources = ("PR #399", "PR #549", "PR #680")
    doubt = "A matter of speed on several GPUs; on one it is plain Muon."

    half: bool = knob(False, choices=(False, True))

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[list[tuple[str, nn.Parameter]]], ShardedMuon]:
        """The optimiser of the named matrices."""
        return lambda named: ShardedMuon(named, self.half, **self.update_knobs())
