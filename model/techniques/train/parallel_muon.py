"""Parallel Muon: every process orthogonalises its share of the matrices while the others' gradients travel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.optimize import Muon as MuonUpdate
from model.recipe import Shape
from model.technique import Technique, knob


class ShardedMuon(MuonUpdate):
    """Muon over stacks of equal matrices, sharded along the stack.

    After the backward pass a reduce-scatter per stack, largest first, gives each process the mean gradient of its share;
    Adam steps meanwhile; then each share is orthogonalised and gathered while the next one is computed. On one process it is
    plain Muon.
    """

    def __init__(self, named: list[tuple[str, nn.Parameter]], half: bool, **knobs: object) -> None:
        super().__init__(named, **knobs)  # type: ignore[arg-type]
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.groups.sort(key=lambda g: -g.momentum.numel())
        self.share = [-(-len(g.parameters) // self.world) for g in self.groups]  # matrices per process, the last padded
        self.travelling: list[tuple[Tensor, object]] = []
        if half:
            for group in self.groups:
                group.momentum = group.momentum.bfloat16()
        if self.world > 1:
            self.reduces = [p for g in self.groups for p in g.parameters]

    def begin(self) -> None:
        """Start the reduce-scatter of every stack."""
        self.travelling = []
        if self.world == 1:
            return
        for group, share in zip(self.groups, self.share, strict=True):
            stack = torch.stack([torch.zeros_like(p) if p.grad is None else p.grad for p in group.parameters])
            stack = torch.cat([stack, stack.new_zeros(share * self.world - len(stack), *stack.shape[1:])])
            mine = stack.new_empty(share, *stack.shape[1:])
            self.travelling.append((mine, dist.reduce_scatter_tensor(mine, stack, async_op=True)))

    @torch.no_grad()
    def step(self, multiplier: float, progress: float) -> None:
        """Update every matrix."""
        if self.world == 1:
            super().step(multiplier, progress)
            return
        mu, rate = self.momentum_at(progress), self.lr * multiplier
        gathering = []
        for group, share, (gradient, arrival) in zip(self.groups, self.share, self.travelling, strict=True):
            arrival.wait()  # type: ignore[attr-defined]
            gradient /= self.world
            begin = min(self.rank * share, len(group.parameters))
            buffer = group.momentum[begin : begin + share]
            mine = gradient[: len(buffer)]
            buffer.mul_(mu).add_(mine)
            direction = self._direction(mine + mu * buffer.to(mine.dtype)) if len(buffer) else mine
            padded = torch.cat([direction, direction.new_zeros(share - len(direction), *direction.shape[1:])])
            whole = padded.new_empty(share * self.world, *padded.shape[1:])
            gathering.append((group.parameters, whole, dist.all_gather_into_tensor(whole, padded, async_op=True)))
        for parameters, whole, arrival in gathering:
            arrival.wait()
            self._apply(parameters, whole[: len(parameters)], rate)

    def state(self) -> dict[str, Tensor]:
        """Momentum by parameter name; each process sends its share to all, so that any of them can write it."""
        if self.world > 1:
            for group, share in zip(self.groups, self.share, strict=True):
                for owner in range(self.world):
                    part = group.momentum[owner * share : (owner + 1) * share]
                    if len(part):
                        dist.broadcast(part, owner)
        return super().state()


@dataclass(frozen=True)
class ParallelMuon(Technique):
    """Shards Muon over the processes and overlaps its communication with its computation.

    The same update as `muon`; with ``half`` the momentum is kept in bfloat16, as published. Gradient clipping then acts on the
    local gradients of the matrices, before they are averaged.
    """

    slot = "matrix_update"
    sources = ("PR #399", "PR #549", "PR #680")
    doubt = "A matter of speed on several GPUs; on one it is plain Muon."

    lr: float = knob(0.04, 0.002, 0.2, log=True)
    momentum: float = knob(0.95, 0.5, 0.999)
    momentum_start: float = knob(0.85, 0.5, 0.999)
    momentum_warmup: float = knob(0.04, 0.0, 1.0)
    weight_decay: float = knob(0.0, 0.0, 0.3)
    steps: int = knob(5, 1, 12)
    half: bool = knob(False, choices=(False, True))

    def build(self, shape: Shape, layer: int | None = None) -> Callable[[list[tuple[str, nn.Parameter]]], ShardedMuon]:
        """The optimiser of the named matrices."""
        momentum = (self.momentum_start, self.momentum, self.momentum_warmup)
        return lambda named: ShardedMuon(
            named, self.half, lr=self.lr, momentum=momentum, weight_decay=self.weight_decay, steps=self.steps
        )
