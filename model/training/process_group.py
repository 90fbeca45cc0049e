"""The processes that train one recipe together (data parallel): which one this is, and what the first one decides for all.

A training in a single process uses the same functions; there they return at once.
"""

from __future__ import annotations

import torch
import torch.distributed as dist


def rank_and_size() -> tuple[int, int]:
    """This process's rank and the number of processes: (0, 1) without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def from_first(number: float, device: torch.device) -> float:
    """The first process's value of ``number`` (seconds on its clock, a step), so that all processes act alike.

    Args:
        number: this process's value.
        device: where the process group communicates.
    """
    if rank_and_size()[1] == 1:
        return number
    shared = torch.tensor(number, dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return float(shared)


def stop_reason(reason: str | None, device: torch.device) -> str:
    """Why the run must stop, or an empty text. The first process decides for all; the others' ``reason`` does not count."""
    stops = from_first(float(bool(reason)), device)
    return (reason or "stopped by the first process") if stops else ""
