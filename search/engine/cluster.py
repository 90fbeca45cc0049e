"""The cluster: this machine, or one that is already running; what a worker is given; and keeping Ray quiet."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import golflab
from golflab.search.engine.lookup import LAST, workers_path
from golflab.search.engine.resources import Cluster
from golflab.search.engine.scratch import scratch

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
# of an experiment whose state is not Tune's, and Ctrl-C left to us. Ray's workers would run at nice 15: one busy program
# beside them would leave them 3 % of a core, and no forecast of the time would hold.
DRIVER_ENVIRONMENT = {
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
# Ray's own switch for a machine that is not to be seen from outside: every process listens on the loopback interface only. Ray
# leaves it off on Linux. Read when Ray is imported.
LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
PATIENCE = 10.0  # seconds in which something must listen at a cluster's address
ANSWER = 30.0  # seconds in which it must then have answered, the import of Ray on a busy machine included
NO_TOKEN = ("InvalidAuthToken", "AuthenticationError")  # words in what Ray says when it wants a token


def connected() -> bool:
    """Whether this process is connected to a cluster already; never imports Ray to find out."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def cores() -> int:
    """Cores of this machine that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def cluster(
    address: str | None = None, cpus: int | None = None, starting: Callable[[str], None] | None = None
) -> Iterator[Cluster]:
    """Connect to a cluster, starting a local one unless one is given or already connected; stop what was started.

    Args:
        address: of a running cluster (``auto`` finds it); None starts one on this machine.
        cpus: cores to use of this machine; None uses those this process may run on.
        starting: told in words what begins, before anything does that takes seconds.

    Raises:
        ValueError: no cluster answers at ``address``, or it wants a token.
    """
    for key, value in DRIVER_ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    mine = not connected()
    with scratch(sockets=mine and address is None) as folder:
        if mine and starting is not None:
            starting("starting Ray" if address is None else f"connecting to the cluster at {address}")
        import ray

        try:
            if mine:
                _connect(address) if address is not None else _start(cpus, folder)
            _quieten()
            found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            nodes = tuple((told.get("CPU", 0.0), told.get("GPU", 0.0)) for told in found)
            resources = ray.cluster_resources()
            totals = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
            yield Cluster(*totals, folder, borrowed=not mine, nodes=nodes, local=address is None and len(nodes) == 1)
        finally:
            if mine:
                ray.shutdown()


_UNSENT = shutil.ignore_patterns("__pycache__", "*.ipynb")
COMMON: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}


def _connect(address: str) -> None:
    """Connect to a running cluster, whose nodes run this driver's code, whatever they have installed.

    Raises:
        ValueError: why not, in one sentence.
    """
    if why := unreachable(address):
        raise ValueError(why)
    import ray

    own = {} if address.startswith("ray://") else {"job_config": _no_folders_first()}  # a client sends none of its folders
    try:
        with tempfile.TemporaryDirectory(prefix="golflab-code-") as folder:
            environment = {"env_vars": WORKER_ENVIRONMENT | {LAST: workers_path()[LAST]}, "py_modules": [_gathered(folder)]}
            ray.init(address=address, runtime_env=environment, **own, **COMMON)
    except Exception as error:  # Ray raises whatever met it: another version, a runtime environment, a lost connection
        raise ValueError(f"The cluster at {address} cannot be used: {_first_line(str(error))}") from error


def _gathered(folder: str) -> str:
    """Golflab's code as the one package that a wheel would hold, copied into a folder; its path."""
    package = Path(folder) / "golflab"
    own = Path(golflab.__file__).resolve().parent
    shutil.copytree(own, package, ignore=_UNSENT)
    for wing in golflab.WINGS:
        if not (package / wing).is_dir():  # a checkout: the four lie beside the package
            shutil.copytree(own.parent / wing, package / wing, ignore=_UNSENT)
    return str(package)


def unreachable(address: str) -> str:
    """Why no cluster can be used at an address, in one sentence; empty if one can.

    Ray waits minutes for an address where nothing answers, and does not tell a missing token from a missing cluster. So a
    first connection is tried in a process of its own, which can be ended.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
        except (OSError, OverflowError) as error:
            return (
                f"Nothing listens at {address} ({error}): start a cluster there with `ray start --head --port {port}`, or "
                "leave --address out to use this machine."
            )
    elif address != "auto":
        return f"address={address!r} must be HOST:PORT, ray://HOST:PORT or auto."
    said = _tried(address)
    if any(word in said for word in NO_TOKEN):
        return (
            f"The cluster at {address} wants a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` "
            "prints on the machine where `ray start` ran (there, RAY_AUTH_MODE=token is enough)."
        )
    return f"No Ray cluster answers at {address}: {said}" if said else ""


def _tried(address: str) -> str:
    """The last line of what another process says when it cannot connect; empty if it can."""
    here_not_first = "import sys; sys.path[:] = [*filter(None, sys.path)]; "
    code = here_not_first + "import ray; ray.init(address=sys.argv[1], log_to_driver=False); ray.shutdown()"
    command = [sys.executable, "-c", code, address]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace") as child:
        patience = threading.Timer(ANSWER, child.kill)
        patience.start()
        said = [f"something listens there, but it did not answer in {ANSWER:.0f} seconds"]
        for line in child.stderr or ():
            said += [line.strip()] if line.strip() else []
            if any(word in line for word in NO_TOKEN):
                child.kill()  # it would try on for a while
                break
        patience.cancel()
    return said[-1] if child.returncode else ""


def _start(cpus: int | None, folder: str) -> None:
    """Start Ray on this machine, seen from nowhere else."""
    with _on_loopback_only():
        import ray

        options: dict[str, Any] = {"runtime_env": {"env_vars": WORKER_ENVIRONMENT | workers_path()}} | COMMON
        for last in (False, True):
            options["job_config"] = _no_folders_first()
            try:
                ray.init(address="local", num_cpus=cpus or cores(), include_dashboard=False, _temp_dir=folder, **options)
                return
            except Exception as error:  # Ray gives its processes thirty seconds, which a busy machine may exceed
                ray.shutdown()
                if last:
                    said = f"Ray could not start on this machine; try again when it is less busy. {error}"
                    raise ValueError(said) from error


def _no_folders_first() -> Any:
    """Keep Ray from having workers look for modules in the driver's working folder, and in its script's, before all others.

    There is no public way: a runtime environment with another working folder would change what relative paths mean. The
    workers look there last (`golflab.search.engine.lookup`).
    """
    from ray.job_config import JobConfig

    class Config(JobConfig):
        def _serialize(self) -> str:
            self._py_driver_sys_path = []
            return super()._serialize()

    return Config()


@contextmanager
def _on_loopback_only() -> Iterator[None]:
    """Have Ray's processes that are started meanwhile listen on the loopback interface, whatever was imported before."""
    from ray._private import ray_constants

    before, enabled = os.environ.get(LOOPBACK_ONLY), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[LOOPBACK_ONLY], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
        os.environ.pop(LOOPBACK_ONLY)
        if before is not None:
            os.environ[LOOPBACK_ONLY] = before


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason was given"])[0]


def _quieten() -> None:
    """Leave the terminal to the live table: what goes wrong with a trial is in its record and its log."""
    for name in ("ray", "ray.tune", "ray.train", "ray.data", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
