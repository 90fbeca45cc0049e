"""The cluster: this machine, or one that is already running; what a worker is given; and keeping Ray quiet."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before the allocator starts, in every worker: large blocks stay mapped (2 to 15 % of a training step), in one arena, or every
# trial's thread would keep its own (10 GB after 24 trials); few compiled kernels are kept, of which every length of
# text needs its own; and one thread a trial, since two trials of one thread beat one trial of two.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
    "MALLOC_ARENA_MAX": "1",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
# Ray reads these when it is imported or starts: no usage reports, no loggers and result files of Tune's, no snapshots
# of an experiment whose state is not Tune's, and Ctrl-C left to us.
DRIVER_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


SCRATCH = "golflab-"


@dataclass(frozen=True)
class Cluster:
    """What there is to run on.

    Attributes:
        cpus: CPU cores of the cluster.
        gpus: GPUs of the cluster.
        scratch: an empty folder for what Tune insists on writing, removed at the end.
        borrowed: whether the connection was there before, and stays: what was started on it must be ended.
    """

    cpus: float
    gpus: float
    scratch: str
    borrowed: bool = False

    def workers(self, bundle: dict[str, float], processes: int = 1) -> int:
        """Trials that can run at the same time, where each has so many processes and each process these resources.

        Raises:
            ValueError: not even one can.
        """
        cpus, gpus = bundle["CPU"] * processes, bundle.get("GPU", 0.0) * processes
        fit = int(self.cpus / cpus + 1e-9)
        if gpus:
            fit = min(fit, int(self.gpus / gpus + 1e-9))
        if fit < 1:
            raise ValueError(f"A trial wants {cpus:g} CPUs and {gpus:g} GPUs; there are {self.cpus:g} and {self.gpus:g}.")
        return fit


@contextmanager
def cluster(address: str | None = None, cpus: int | None = None) -> Iterator[Cluster]:
    """Connect to a cluster, starting a local one unless one is given or already connected; stop what was started.

    Args:
        address: of a running cluster (``auto`` finds it); None starts one on this machine.
        cpus: cores to use of this machine; None uses those this process may run on.

    Raises:
        ValueError: no cluster answers at ``address``.
    """
    for key, value in DRIVER_ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    import ray

    mine = not ray.is_initialized()
    with _scratch() as scratch:
        try:
            if mine:
                _start(address, cpus, scratch)
            _quieten()
            resources = ray.cluster_resources()
            yield Cluster(resources.get("CPU", 0.0), resources.get("GPU", 0.0), scratch, borrowed=not mine)
        finally:
            if mine:
                ray.shutdown()


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder for as long as this driver lives; those of drivers that were killed are removed.

    The path of Ray's sockets must stay under 107 characters, so it lies where the system keeps short-lived files.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError):
            _remove_if_dead(left)
    folder = tempfile.mkdtemp(prefix=SCRATCH)
    with open(Path(folder) / "alive", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_if_dead(scratch: Path) -> None:
    """Remove a scratch folder whose driver lives no more.

    Raises:
        OSError: its driver lives, or it is gone already.
    """
    lock = scratch / "alive"
    if lock.exists():
        with open(lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its driver lives
            shutil.rmtree(scratch, ignore_errors=True)
    elif time.time() - scratch.stat().st_mtime > 60:  # what Ray wrote while it was being removed
        shutil.rmtree(scratch, ignore_errors=True)


def _start(address: str | None, cpus: int | None, scratch: str) -> None:
    import ray

    common: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "runtime_env": {"env_vars": WORKER_ENVIRONMENT},
    }
    if address is not None:
        # Its nodes run this driver's code, whatever they have installed.
        common["runtime_env"] |= {
            "py_modules": [str(Path(__file__).parent.parent / name) for name in ("model", "spaces", "search")]
        }
        try:
            ray.init(address=address, **common)
        except (ConnectionError, ValueError) as error:
            raise ValueError(f"No cluster answers at {address!r}: {error}") from error
        return
    count = cpus or len(os.sched_getaffinity(0))
    for last in (False, True):
        try:
            ray.init(address="local", num_cpus=count, include_dashboard=False, _temp_dir=scratch, **common)
            return
        except Exception as error:  # Ray gives its processes thirty seconds, which a busy machine may exceed
            ray.shutdown()
            if last:
                raise ValueError(f"Ray could not start on this machine; try again when it is less busy. {error}") from error


def _quieten() -> None:
    """Leave the terminal to the live table: what goes wrong with a trial is in its record and its log."""
    for name in ("ray", "ray.tune", "ray.train", "ray.data", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
