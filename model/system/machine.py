"""The machine of a run: its description in the record, and the conditions under which results can be used again."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from golflab.model.system.device import Place


@dataclass(frozen=True)
class Conditions:
    """What changes a stage's result, apart from recipe, data and code.

    Attributes:
        device: ``cpu`` or ``cuda``: products are summed in another order.
        dtype: type of activations and products.
        processes: how many train together: each sums its own share of a batch.
        compiled: whether the training is compiled: fused operations round less often.
        pace: device, cores and threads, which decide the steps per second; only trainings bounded by seconds depend on it.
    """

    device: str
    dtype: str
    processes: int = 1
    compiled: bool = False
    pace: str = ""

    @staticmethod
    def here(place: Place, processes: int = 1, compiled: bool = False) -> Conditions:
        """Those of a run in this process."""
        return Conditions(place.device.type, _dtype(place), processes, compiled, pace(place))

    @staticmethod
    def of_record(machine: dict[str, str]) -> Conditions | None:
        """The conditions in a record; None for an old record without them."""
        if not {"device_type", "compiled", "pace"} <= set(machine):
            return None
        processes = int(machine.get("processes", "1"))
        return Conditions(machine["device_type"], machine["dtype"], processes, machine["compiled"] == "yes", machine["pace"])


def describe(place: Place, compiled: bool) -> dict[str, str]:
    """Versions and hardware, as a record keeps them."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": _name(place),
        "device_type": place.device.type,
        "dtype": _dtype(place),
        "system": platform.system(),
        "compiled": "yes" if compiled else "no",
        "pace": pace(place),
        "host": host(),
    }


def host() -> str:
    """A mark of this machine's name, by which records tell machines of one kind apart without publishing the name."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def pace(place: Place) -> str:
    """The device's name, and the cores and threads this process may use: machines with equal values are of one kind."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_name(place)}, {cores} cores, {torch.get_num_threads()} threads"


def _name(place: Place) -> str:
    return torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else _processor()


def _dtype(place: Place) -> str:
    return str(place.dtype).removeprefix("torch.")


def _processor() -> str:
    """The processor's name, as exactly as the system reports it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(errors="replace").splitlines() if table.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]
