"""The resources of a cluster, and how many trials have room on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cluster:
    """The resources of a Ray cluster.

    Attributes:
        cpus: CPU cores of the cluster.
        gpus: GPUs of the cluster.
        scratch: an empty folder for the files that Tune writes; it is removed at the end.
        borrowed: whether this process was connected before. Then the connection stays, and actors started on it must be ended.
        nodes: CPU cores and GPUs of each node; empty: there is one node.
        local: whether it is this machine alone.
    """

    cpus: float
    gpus: float
    scratch: str
    borrowed: bool = False
    nodes: Sequence[tuple[float, float]] = ()
    local: bool = True

    @property
    def cores_per_gpu(self) -> float:
        """CPU cores per GPU, on the node with the fewest; infinite where there are no GPUs."""
        nodes = self.nodes or [(self.cpus, self.gpus)]
        return min((cpus / gpus for cpus, gpus in nodes if gpus and cpus), default=float("inf"))

    def workers(self, bundle: dict[str, float], processes: int = 1) -> int:
        """Number of trials that can run at the same time.

        Args:
            bundle: resources of each process, ``CPU`` and ``GPU``.
            processes: of each trial.

        Raises:
            ValueError: there is no room for one trial.
        """
        cpus, gpus = bundle["CPU"], bundle.get("GPU", 0.0)
        where = "this machine" if self.local else "this cluster"
        wants = f"{gpus * processes:g} GPU" + ("s" if gpus * processes > 1 else "")
        if gpus * processes > self.gpus + 1e-9:
            has = f"{self.gpus:g}" if self.gpus else "none"
            raise ValueError(f"Each trial needs {wants} (--gpus-per-trial {gpus * processes:g}) but {where} has {has}.")
        fit = sum(_fit(node, cpus, gpus) for node in self.nodes or [(self.cpus, self.gpus)]) // processes
        if fit < 1:
            also, there = (f" and {wants}", f" and {self.gpus:g} GPUs") if gpus else ("", "")
            raise ValueError(
                f"Each trial needs {cpus * processes:g} CPU cores{also} (--processes {processes}), but {where} has "
                f"{self.cpus:g} cores{there}. Ask for fewer --processes."
            )
        return fit


def _fit(node: tuple[float, float], cpus: float, gpus: float) -> int:
    """Number of processes that a node has room for. A fraction of a GPU that is left over stays unused."""
    fit = int(node[0] / cpus + 1e-9)
    if not gpus:
        return fit
    on_gpus = int(node[1] + 1e-9) * int(1 / gpus + 1e-9) if gpus < 1 else int(node[1] / gpus + 1e-9)
    return min(fit, on_gpus)


def placement(workers: int, bundle: dict[str, float], processes: int, gpus: float) -> str:
    """How trials are placed, in words: ``8 workers, one GPU each``.

    Args:
        workers: trials at the same time.
        bundle: resources of each process of a trial.
        processes: of a trial.
        gpus: of the cluster.
    """
    each = bundle.get("GPU", 0.0)
    words = f"{workers} worker" + ("s" if workers > 1 else "")
    if processes > 1:
        words += f" of {processes} processes, {'one GPU' if each else _amount(bundle['CPU'], 'core')} for each process"
    else:
        words += f", {_amount(each, 'GPU') if each else _amount(bundle['CPU'], 'core')}" + (" each" if workers > 1 else "")
    if gpus and not each:
        words += f"; no trial uses a GPU (there {'are' if gpus > 1 else 'is'} {gpus:g}; --gpus-per-trial 0)"
    return words


def _amount(number: float, what: str) -> str:
    return f"one {what}" if number == 1 else f"{number:g} of a {what}" if number < 1 else f"{number:g} {what}s"
