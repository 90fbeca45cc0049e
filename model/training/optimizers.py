"""Optimizers: the kind of a parameter decides between Muon and Adam; matrices of equal shape are updated together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from golflab.model.network.layers import ParameterInfo, parameters_of
from golflab.model.recipe import Recipe

# Coefficients (a, b, c) of the quintic a·x + b·x³ + c·x⁵ that drives singular values to about 1 (Keller Jordan, Muon, 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
# One quintic per iteration; the last one stands for all iterations after it. Polar Express: arXiv 2505.16932, as #1787 has it.
POLYNOMIALS = {
    "fixed": (NEWTON_SCHULZ,),
    "polar_express": (
        (8.156554525, -22.48329293, 15.87876992),
        (4.042929935, -2.808917466, 0.500017845),
        (3.891667802, -2.772484153, 0.506064818),
        (3.285753658, -2.368129493, 0.464490242),
        (2.346541326, -1.709782838, 0.423235512),
    ),
}
# What Newton–Schulz computes in; None: bfloat16 on a GPU, the fastest type for products there and precise enough for a
# direction, and float32 on a CPU, where bfloat16 takes four times as long (benchmarks/batched.py).
WORKING: torch.dtype | None = None


@torch.no_grad()
def orthogonalize(matrices: Tensor, steps: int = 5, polynomial: str = "fixed") -> Tensor:
    """Newton–Schulz: replace every singular value of each matrix by about one.

    Args:
        matrices: (..., rows, columns) of any type; worked on in the type that `WORKING` says.
        steps: iterations.
        polynomial: which of `POLYNOMIALS` they apply.

    Returns:
        The same shape, in the working type.
    """
    quintics = POLYNOMIALS[polynomial]
    x = matrices.to(WORKING or (torch.bfloat16 if matrices.is_cuda else torch.float32))
    tall = x.size(-2) > x.size(-1)
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for step in range(steps):
        a, b, c = quintics[min(step, len(quintics) - 1)]
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


@dataclass
class MuonState:
    """The matrices of one shape, stacked."""

    parameters: list[Tensor]
    names: list[str]
    momentum: Tensor  # (count, rows, columns) float32


class Muon:
    """Momentum, orthogonalised (Nesterov form), with decoupled weight decay; the same on every process.

    W ← W·(1 − lr·decay); W ← W − lr·√max(1, rows/columns)·NS(G + μ·buf), where buf ← μ·buf + G.

    Args:
        named: the matrices, by name.
        lr: learning rate before the schedule's multiplier.
        momentum: (start, end, share of the run over which it moves linearly from start to end).
        weight_decay: decoupled, times the scheduled learning rate.
        steps: Newton–Schulz iterations.
        prepare: what is done to the stacked update before Newton–Schulz, or None.
        polynomial: which of `POLYNOMIALS` it applies.
        taper: (share of the run with the full decay, factor of the decay at the end); between them it moves linearly.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        lr: float,
        momentum: tuple[float, float, float],
        weight_decay: float,
        steps: int,
        prepare: Callable[[Tensor], Tensor] | None = None,
        polynomial: str = "fixed",
        taper: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.lr, self.momentum, self.weight_decay, self.taper = lr, momentum, weight_decay, taper
        self.steps, self.prepare, self.polynomial = steps, prepare, polynomial
        shapes: dict[torch.Size, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in named:
            shapes.setdefault(parameter.shape, []).append((name, parameter))
        self.groups = [
            MuonState([p for _, p in pairs], [n for n, _ in pairs], torch.zeros(len(pairs), *shape, device=pairs[0][1].device))
            for shape, pairs in shapes.items()
        ]

    def begin(self) -> None:
        """Called after the backward pass, before any optimiser steps: where communication may start."""

    def momentum_at(self, progress: float) -> float:
        """μ at this share of the run."""
        start, end, share = self.momentum
        return start + (end - start) * (min(progress / share, 1.0) if share > 0 else 1.0)

    def decay_at(self, progress: float) -> float:
        """Weight decay at this share of the run."""
        hold, end = self.taper
        return self.weight_decay * (1.0 + (end - 1.0) * max(0.0, progress - hold) / (1.0 - hold))

    @torch.no_grad()
    def step(self, multiplier: float, progress: float) -> None:
        """Update every matrix that has a gradient; the others keep weights and momentum as they are."""
        mu, rate, decay = self.momentum_at(progress), self.lr * multiplier, self.decay_at(progress)
        for group in self.groups:
            live = [i for i, p in enumerate(group.parameters) if p.grad is not None]
            if live:
                self._update(group, live, mu, rate, decay)

    def _update(self, group: MuonState, live: list[int], mu: float, rate: float, decay: float) -> None:
        parameters: list[Tensor] = [group.parameters[i] for i in live]
        gradient = torch.stack([p.grad for p in parameters])  # type: ignore[misc]
        whole = len(live) == len(group.parameters)
        buffer = group.momentum if whole else group.momentum[live]
        buffer.mul_(mu).add_(gradient)
        if not whole:
            group.momentum[live] = buffer
        self._apply(parameters, self._direction(gradient.add_(buffer, alpha=mu)), rate, decay)

    def _direction(self, update: Tensor) -> Tensor:
        """Stacked momentum (count, rows, columns) -> orthogonalised, float32."""
        if self.prepare is not None:
            update = self.prepare(update)
        return orthogonalize(update, self.steps, self.polynomial).to(torch.float32)

    def _apply(self, parameters: list[Tensor], update: Tensor, rate: float, decay: float) -> None:
        """Decay, then subtract the stacked update at this rate and the shape's own factor."""
        rows, columns = update.shape[-2:]
        torch._foreach_mul_(parameters, 1.0 - rate * decay)
        torch._foreach_add_(parameters, list(update.unbind()), alpha=-rate * max(1.0, rows / columns) ** 0.5)

    def state(self) -> dict[str, Tensor]:
        """Momentum by parameter name."""
        return {f"momentum.{n}": g.momentum[i] for g in self.groups for i, n in enumerate(g.names)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take `state`'s output back."""
        for group in self.groups:
            for i, name in enumerate(group.names):
                group.momentum[i].copy_(state[f"momentum.{name}"])


@dataclass(frozen=True)
class AdamGroup:
    """Parameters that share a learning rate.

    Attributes:
        names: the parameters.
        lr: learning rate before the schedule's multiplier.
        weight_decay: decoupled by default; ``coupled`` adds it to the gradient instead.
        beta2: the decay of its second moments; None for that of all groups.
    """

    names: tuple[str, ...]
    lr: float
    weight_decay: float = 0.0
    coupled: bool = False
    beta2: float | None = None


Grouping = Callable[[list[ParameterInfo]], list[AdamGroup]]  # what the slot `groups` builds, with betas and epsilon


class Adam:
    """PyTorch's fused Adam and AdamW over groups, behind the same three methods as `Muon`."""

    def __init__(
        self, named: dict[str, nn.Parameter], groups: Iterable[AdamGroup], betas: tuple[float, float], eps: float
    ) -> None:
        self.names: list[list[str]] = []
        self.optimizers: list[tuple[torch.optim.Optimizer, float]] = []
        for group in groups:
            if not group.names:
                continue
            kind = torch.optim.Adam if group.coupled else torch.optim.AdamW
            parameters = [named[n] for n in group.names]
            moments = (betas[0], betas[1] if group.beta2 is None else group.beta2)
            made = kind(parameters, lr=group.lr, betas=moments, eps=eps, weight_decay=group.weight_decay, fused=True)
            self.optimizers.append((made, group.lr))
            self.names.append(list(group.names))

    def begin(self) -> None:
        """Nothing to prepare."""

    def step(self, multiplier: float, progress: float) -> None:
        """Update every parameter that has a gradient."""
        for optimizer, lr in self.optimizers:
            optimizer.param_groups[0]["lr"] = lr * multiplier
            optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts by parameter name."""
        out: dict[str, Tensor] = {}
        for (optimizer, _), names in zip(self.optimizers, self.names, strict=True):
            for name, parameter in zip(names, optimizer.param_groups[0]["params"], strict=True):
                out |= {f"adam.{key}.{name}": value for key, value in optimizer.state.get(parameter, {}).items()}
        return out

    def load(self, state: dict[str, Tensor]) -> None:
        """Take `state`'s output back."""
        for (optimizer, _), names in zip(self.optimizers, self.names, strict=True):
            for name, parameter in zip(names, optimizer.param_groups[0]["params"], strict=True):
                keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"adam.{key}.{name}" in state]
                optimizer.state[parameter] = {key: state[f"adam.{key}.{name}"].clone() for key in keys}


class Optimizers:
    """All optimizers of a run; each parameter is in exactly one.

    The technique in the slot ``matrix_update`` builds the optimizer of the matrices. The technique in the slot ``groups`` says
    which groups Adam has, and may give it matrices too.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        named = dict(model.named_parameters())
        infos = parameters_of(model)
        groups_of, betas, eps = recipe.build("groups")
        groups: list[AdamGroup] = groups_of(infos)
        taken = [name for group in groups for name in group.names]
        matrices = [(i.name, named[i.name]) for i in infos if i.name not in set(taken)]
        if len(set(taken)) != len(taken) or any(i.kind != "linear" for i in infos if i.name not in set(taken)):
            raise RuntimeError("The optimiser groups must hold every table and scale once, and no parameter twice.")
        self.parts: list[Any] = [Adam(named, groups, betas, eps)]
        if matrices:
            self.parts.insert(0, recipe.build("matrix_update")(matrices))
        if recipe.technique_in("clip_grad") is not None:
            # Clipping needs all gradients averaged: otherwise each process would clip by its own norm.
            for part in self.parts:
                part.reduces = []
        # Gradients that an optimizer averages over the processes itself; the training loop averages all others.
        self.own_reduction = {id(p) for part in self.parts for p in getattr(part, "reduces", ())}

    def step(self, multiplier: float, progress: float) -> None:
        """One step of all optimisers with the schedule's multiplier at this progress in [0, 1]."""
        for part in self.parts:
            part.begin()
        for part in reversed(self.parts):  # Adam first, while a sharded Muon communicates
            part.step(multiplier, progress)

    def state(self) -> dict[str, Tensor]:
        """Everything needed to continue bit-exactly, by name."""
        return {key: value for part in self.parts for key, value in part.state().items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take `state`'s output back."""
        for part in self.parts:
            part.load(state)
