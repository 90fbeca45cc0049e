"""Work on several gloo processes, for the tests that compare them with one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from golflab.model.recipe import Recipe
from tests.contract_helpers import _trained
from tests.machine import prepare


def _enter(rank: int, world: int, work: Callable[..., Any], arguments: tuple[Any, ...], folder: str) -> None:
    prepare()
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    torch.save(work(*arguments), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def spread(work: Callable[..., Any], folder: Path, *arguments: Any, world: int = 2) -> list[Any]:
    """What ``work(*arguments)`` returns on each process of a group; a function of a module, for it is sent by name."""
    torch.multiprocessing.spawn(_enter, (world, work, arguments, str(folder)), nprocs=world)
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


def trainings(recipes: list[Recipe]) -> list[tuple[dict[str, Tensor], list[float]]]:
    """Last weights and losses of each recipe, trained with whatever processes there are."""
    done = [_trained(recipe, False) for recipe in recipes]
    return [(t.weights, [point["loss"] for point in t.curve]) for t in done]


def all_work() -> dict[str, Any]:
    """What each module of tests wants done on every process, by its name."""
    from tests import test_replicas
    from tests.techniques import test_parallel_muon

    return {"replicas": test_replicas.work(), "parallel_muon": test_parallel_muon.work()}
