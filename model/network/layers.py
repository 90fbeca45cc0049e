"""The three kinds of parameter. Every parameter of a model is in one of them; the kind, not the name, decides its treatment.

`Linear`: matrices; Muon updates them and they are stored on few bits. `Table`: rows looked up by an id; Adam, the
table's own bits. `Scale`: gains, gates and other control tensors; Adam, kept in float.

Quantisation-aware training (`fake`), test-time adapters (`delta`) and Hessians (`observe`) act through attributes of `Linear`
and `Table` only, so that all of them share one forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Weighted(nn.Module):
    """A (rows, columns) matrix, and the functions that other parts of golflab can attach to it.

    Attributes:
        weight: (rows, columns), float32 master copy.
        role: what it does: ``attention``, ``mlp``, ``table``, ``head``, ``bigram`` or ``value``; bits are chosen by it.
        start: how `initialize` draws it: ``uniform`` (±1/√columns), ``zeros``, or a float, the normal's deviation.
        fixed: whether its technique fixes ``start`` by a knob, so that no technique in the slot `init` draws it.
        fake: weight -> the weight the forward pass sees (quantisation-aware training), or None.
        delta: (input, output) -> output (test-time LoRA), or None.
        observe: called with every input (Hessians), or None.
    """

    def __init__(self, rows: int, columns: int, role: str, start: str | float, fixed: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))
        self.role, self.start, self.fixed = role, start, fixed
        self.fake: Callable[[Tensor], Tensor] | None = None
        self.delta: Callable[[Tensor, Tensor], Tensor] | None = None
        self.observe: Callable[[Tensor], None] | None = None

    def seen(self, dtype: torch.dtype) -> Tensor:
        """The weight as the forward pass sees it, in the compute type."""
        weight = self.weight if self.fake is None else self.fake(self.weight)
        return weight.to(dtype)

    def apply_to(self, x: Tensor) -> Tensor:
        """Multiply ``x`` (..., columns) by the transposed weight: (..., rows)."""
        if self.observe is not None:
            self.observe(x)
        y = F.linear(x, self.seen(x.dtype))
        return y if self.delta is None else self.delta(x, y)


class Linear(Weighted):
    """y = x Wᵀ without bias; W (outputs, inputs)."""

    kind = "linear"

    def __init__(self, inputs: int, outputs: int, role: str, start: str | float = "uniform", fixed: bool = False) -> None:
        super().__init__(outputs, inputs, role, start, fixed)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return self.apply_to(x)


class Table(Weighted):
    """Rows looked up by id; `project` uses the same rows as output vectors (tied embeddings)."""

    kind = "table"

    def __init__(self, rows: int, columns: int, role: str = "table", start: str | float = 0.005, fixed: bool = False) -> None:
        super().__init__(rows, columns, role, start, fixed)

    def forward(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Ids (...) -> rows (..., columns) in the compute type."""
        weight = self.weight if self.fake is None else self.fake(self.weight)
        return F.embedding(ids, weight).to(dtype)

    def project(self, x: Tensor) -> Tensor:
        """(..., columns) -> (..., rows)."""
        return self.apply_to(x)


class Scale(nn.Module):
    """A control tensor: gains, gates, mixing weights. Called, it returns itself in the compute type.

    Args:
        shape: of the tensor.
        start: its initial value: a number, or nested lists that broadcast to the shape. Plain numbers rather than a
            tensor, so that a model built on the meta device has them too.
    """

    kind = "scale"
    role = "scale"

    def __init__(self, shape: tuple[int, ...], start: float | Sequence[Any]) -> None:
        super().__init__()
        self.start = start
        self.weight = nn.Parameter(torch.empty(shape))

    def forward(self, dtype: torch.dtype) -> Tensor:
        """The tensor in the compute type."""
        return self.weight.to(dtype)


@dataclass(frozen=True)
class ParameterInfo:
    """What optimizer, quantiser and byte bill need to know about a parameter."""

    name: str
    kind: str
    role: str
    shape: tuple[int, ...]
    layer: int | None

    @property
    def count(self) -> int:
        """Number of elements."""
        total = 1
        for size in self.shape:
            total *= size
        return total


def parameters_of(model: nn.Module) -> list[ParameterInfo]:
    """Every parameter of ``model`` by kind and role, in the model's order.

    Raises:
        TypeError: a parameter lives outside `Linear`, `Table` and `Scale`.
    """
    infos = []
    for name, parameter in model.named_parameters():
        owner_name = name.rpartition(".")[0]
        owner = model.get_submodule(owner_name)
        if not isinstance(owner, Linear | Table | Scale):
            raise TypeError(f"{name} lives in a {type(owner).__name__}; put it in a Linear, a Table or a Scale.")
        parts = owner_name.split(".")
        layer = int(parts[1]) if parts[0] == "blocks" else None
        infos.append(ParameterInfo(name, owner.kind, owner.role, tuple(parameter.shape), layer))
    return infos
