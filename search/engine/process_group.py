"""The processes that train one trial together, one in each bundle of the trial's Ray placement group.

The trial's own worker has rank 0: it alone quantises, packs, scores and writes. The other ranks are actors that it keeps for as
long as it lives, so that they, too, import torch once. They communicate by ``torch.distributed``, with NCCL on GPUs and gloo
elsewhere. If one of them is lost, the trial is lost, and Tune hands it out again.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from golflab.model.recipe import Recipe
from golflab.search.engine.lookup import take_up

PATIENCE = timedelta(hours=1)  # how long the other ranks wait while rank 0 measures at a rung
HIDING = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")  # if empty, a process sees no GPU
VERDICT_SECONDS = 10.0  # how long to wait for the error of a rank that may have broken the others' connection


class Lost(RuntimeError):
    """The trial cannot go on here, and its recipe is not the cause: it must be handed out again."""


class Member:
    """A further process of a trial, with rank 1 or more."""

    def node(self) -> str:
        """The name of the node it is on, once it has started."""
        return node()

    def assist(
        self, assistant: str, recipe: str, cache: Path, rendezvous: tuple[str, int, int, int], settings: dict[str, Any]
    ) -> None:
        """Take part in a training; ``rendezvous`` is rank 0's host and port, this rank, and the number of ranks."""
        host, port, rank, world = rendezvous
        device = own_device()
        with _connected(host, port, rank, world, device):
            load(assistant)(Recipe.from_json(json.loads(recipe)), cache, device=device, **settings)


class ProcessGroup:
    """The further processes of one worker's trials.

    Args:
        bundle: resources of each process.
        processes: number of ranks, the worker included.
        assistant: ``module:function`` that a further process calls with recipe, cache and `golflab.model.run.assist`'s
        settings.
    """

    def __init__(self, bundle: dict[str, float], processes: int, assistant: str) -> None:
        self._bundle, self.world, self._assistant = bundle, processes, assistant
        self._members: list[Any] = []
        self._tasks: list[Any] = []

    def start(self) -> list[str]:
        """Start the further processes that are missing; return the nodes of all.

        Raises:
            Lost: one of them died.
        """
        if not self._members:
            self._members = [self._actor(rank) for rank in range(1, self.world)]
        try:
            return [node(), *ray.get([member.node.remote() for member in self._members])]
        except RayError as error:
            self.end()
            raise Lost(f"a process of the trial could not start: {_first_line(error)}") from error

    def _actor(self, rank: int) -> Any:
        group = ray.util.get_current_placement_group()
        assert group is not None  # Tune starts every trial of several bundles in one
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
        options = {"num_cpus": self._bundle["CPU"], "num_gpus": self._bundle.get("GPU", 0), "scheduling_strategy": strategy}
        return ray.remote(Member).options(**options).remote()

    def end(self) -> None:
        """End the further processes."""
        for member in self._members:
            with suppress(Exception):
                ray.kill(member)
        self._members = []

    @contextmanager
    def training(self, cache: Path, more: dict[str, Any], recipe: Recipe, settings: dict[str, Any]) -> Iterator[None]:
        """A context for one training, in which all ranks are connected; `golflab.model.run.run` enters it.

        Raises:
            Lost: one of the processes died.
            MemoryError: one of them ran out of memory.
        """
        self.start()
        host = ray.util.get_node_ip_address()
        store = _rendezvous_store(host)
        body = json.dumps(recipe.to_json())
        try:
            self._tasks = [
                member.assist.remote(self._assistant, body, cache, (host, store.port, rank, self.world), settings | more)
                for rank, member in enumerate(self._members, 1)
            ]
            with _connected(host, store.port, 0, self.world, own_device()):
                yield
            ray.get(self._tasks)
        except Exception as error:
            cause = self._cause(error)
            self.end()  # the others wait for a rank that is gone
            raise cause from error
        finally:
            self._tasks = []

    def check(self) -> None:
        """Check the other ranks while this one trains: if one is lost, this one may wait for ever.

        Raises:
            Lost: one of them died.
        """
        for ended in ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0)[0] if self._tasks else []:
            if isinstance(error := _error_of(ended), Lost):
                raise error

    def _cause(self, error: Exception) -> Exception:
        """Why a training ended: the error of rank 0, unless that only says that another rank is gone."""
        from torch.distributed import DistError

        if not (type(error) is RuntimeError or isinstance(error, (DistError, RayError))):
            return error
        errors = [_error_of(t) for t in ray.wait(self._tasks, num_returns=len(self._tasks), timeout=VERDICT_SECONDS)[0]]
        serious = [e for e in errors if e is not None and type(e) is not RuntimeError and not isinstance(e, DistError)]
        return min(serious, key=lambda e: not isinstance(e, Lost), default=error)


def _error_of(task: Any) -> Exception | None:
    """How a rank ended: None, its own error, or `Lost`."""
    try:
        ray.get(task)
    except RayTaskError as error:
        cause = error.cause
        return cause if isinstance(cause, Exception) else error
    except RayError as error:
        return Lost(f"a process of the trial was lost: {_first_line(error)}")
    return None


def _rendezvous_store(host: str) -> Any:
    """The key-value store by which the ranks connect. It listens at this address only; PyTorch's own listens at all."""
    from torch.distributed import TCPStore

    listening = socket.create_server((host, 0))
    port = listening.getsockname()[1]
    return TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())


@contextmanager
def _connected(host: str, port: int, rank: int, world: int, device: str) -> Iterator[None]:
    """Be one rank of the process group whose store is at this address."""
    import torch.distributed as dist

    if host.startswith("127."):  # a local cluster: this machine's name may resolve to a public address
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
    store = dist.TCPStore(host, port, is_master=False, wait_for_workers=False)
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def own_device() -> str:
    """``cuda`` where Ray has given this worker a GPU, else ``cpu``; GPUs that were not given are hidden from it.

    Ray shows a worker the GPUs it was given and no others. A worker that was given none may still see them all: a node's
    settings decide that, so it is not left to them.
    """
    if ray.get_runtime_context().get_accelerator_ids().get("GPU"):
        return "cuda"
    for name in HIDING:
        os.environ[name] = ""
    return "cpu"


def node() -> str:
    """A short name of the node this process is on."""
    return ray.get_runtime_context().get_node_id()[:8]


def load(dotted: str) -> Callable[..., Any]:
    """Import a function given as ``module:function``."""
    take_up()
    module, _, name = dotted.partition(":")
    return getattr(importlib.import_module(module), name)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:120]
