"""Trainings on several gloo processes, for the tests that compare them with one."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from model.recipe import Recipe
from tests.contract_helpers import _trained


def _worker(rank: int, world: int, recipes: list[Recipe], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    done = [_trained(recipe) for recipe in recipes]
    torch.save([(t.weights, [point["loss"] for point in t.curve]) for t in done], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def together(recipes: list[Recipe], folder: Path, world: int = 2) -> list[list[tuple[dict[str, Tensor], list[float]]]]:
    """Last weights and losses of each recipe, by process."""
    torch.multiprocessing.spawn(_worker, (world, recipes, str(folder)), nprocs=world)
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]
