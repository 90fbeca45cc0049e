"""Connecting to a Ray cluster: one that is started on this machine, or one that is already running."""

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

# Environment of every worker. The allocator keeps large blocks mapped (saves 2 to 15 % of a training step) and has one arena,
# because otherwise every trial's thread keeps its own (10 GB after 24 trials). Few compiled kernels are cached, because every
# length of text needs its own. Each trial has one thread: two trials with one thread are faster than one trial with two.
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
# Ray reads these when it is imported or starts. They switch off usage reports, Tune's loggers and result files, its snapshots
# (the state is in the ledger) and its handling of Ctrl-C. Ray's workers would run at nice 15: one busy program on the
# machine would leave them 3 % of a core, and no estimate of the time would hold.
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
# Ray's own switch to make every process listen on the loopback interface only, so that the machine cannot be reached from
# outside. On Linux it is off by default. Ray reads it when it is imported.
LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
PATIENCE = 10.0  # seconds to wait for a connection to a cluster's address
ANSWER = 90.0  # seconds to wait for the cluster's answer, including the import of Ray on a busy machine
NO_TOKEN = ("InvalidAuthToken", "AuthenticationError")  # words in Ray's error if a token is missing or wrong


def connected() -> bool:
    """Whether this process is connected to a cluster. It does not import Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def cores() -> int:
    """CPU cores of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def cluster(
    address: str | None = None, cpus: int | None = None, starting: Callable[[str], None] | None = None
) -> Iterator[Cluster]:
    """Connect to a cluster. A local one is started, and stopped at the end, unless there is an address or a connection.

    Args:
        address: of a running cluster (``auto`` finds it); None starts one on this machine.
        cpus: cores to use of this machine; None uses those this process may run on.
        starting: called with a text before something that takes seconds.

    Raises:
        ValueError: no cluster answers at ``address``, or it needs a token.
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
            nodes = tuple((node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in found)
            resources = ray.cluster_resources()
            totals = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
            yield Cluster(*totals, folder, borrowed=not mine, nodes=nodes, local=address is None and len(nodes) == 1)
        finally:
            if mine:
                ray.shutdown()


_UNSENT = shutil.ignore_patterns("__pycache__", "*.ipynb")
COMMON: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}


def _connect(address: str) -> None:
    """Connect to a running cluster. Its nodes run this driver's code, whatever they have installed.

    Raises:
        ValueError: no connection; the message has the reason in one sentence.
    """
    if why := unreachable(address):
        raise ValueError(why)
    import ray

    own = {} if address.startswith("ray://") else {"job_config": _no_folders_first()}  # a Ray client sends no folders
    try:
        with tempfile.TemporaryDirectory(prefix="golflab-code-") as folder:
            environment = {"env_vars": WORKER_ENVIRONMENT | {LAST: workers_path()[LAST]}, "py_modules": [_gathered(folder)]}
            ray.init(address=address, runtime_env=environment, **own, **COMMON)
    except Exception as error:  # Ray raises many types: another version, the runtime environment, a lost connection
        raise ValueError(f"The cluster at {address} cannot be used: {_first_line(str(error))}") from error


def _gathered(folder: str) -> str:
    """Copy golflab's code into a folder, as the one package that a wheel would contain; return the package's path."""
    package = Path(folder) / "golflab"
    own = Path(golflab.__file__).resolve().parent
    shutil.copytree(own, package, ignore=_UNSENT)
    for wing in golflab.WINGS:
        if not (package / wing).is_dir():  # a checkout: the four packages lie next to this one
            shutil.copytree(own.parent / wing, package / wing, ignore=_UNSENT)
    return str(package)


def unreachable(address: str) -> str:
    """Why the cluster at an address cannot be used, in one sentence; an empty text if it can.

    Ray waits minutes if nothing answers, and its error does not distinguish a missing token from a missing cluster. So a first
    connection is tried in another process, which can be killed.
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
            f"The cluster at {address} needs a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` "
            "prints on the machine where `ray start` ran (there, RAY_AUTH_MODE=token is enough)."
        )
    return f"No Ray cluster answers at {address}: {said}" if said else ""


def _tried(address: str) -> str:
    """The last line of the error of another process that tries to connect; empty if it can."""
    here_not_first = "import sys; sys.path[:] = [*filter(None, sys.path)]; "
    code = here_not_first + "import ray; ray.init(address=sys.argv[1], log_to_driver=False); ray.shutdown()"
    command = [sys.executable, "-c", code, address]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace") as child:
        patience = threading.Timer(ANSWER, child.kill)
        patience.start()
        said = [""]
        for line in child.stderr or ():
            said += [line.strip()] if line.strip() else []
            if any(word in line for word in NO_TOKEN):
                child.kill()  # it would retry for a while
                break
        waited_in_vain = not patience.is_alive()
        patience.cancel()
    if waited_in_vain:  # what Ray said last is then a warning about its own shorter limits
        return f"something listens there, but it did not answer in {ANSWER:.0f} seconds"
    return said[-1] if child.returncode else ""


def _start(cpus: int | None, folder: str) -> None:
    """Start Ray on this machine, so that no other machine can reach it."""
    with _on_loopback_only():
        import ray

        options: dict[str, Any] = {"runtime_env": {"env_vars": WORKER_ENVIRONMENT | workers_path()}} | COMMON
        for last in (False, True):
            options["job_config"] = _no_folders_first()
            try:
                ray.init(address="local", num_cpus=cpus or cores(), include_dashboard=False, _temp_dir=folder, **options)
                return
            except (
                Exception
            ) as error:  # Ray gives its processes thirty seconds to start, which may be too short on a busy machine
                ray.shutdown()
                if last:
                    said = f"Ray could not start on this machine; try again when it is less busy. {error}"
                    raise ValueError(said) from error


def _no_folders_first() -> Any:
    """A job configuration with which workers do not look for modules in the driver's working folder first.

    There is no public way: a runtime environment with another working folder would change the meaning of relative paths. The
    workers look in that folder last (`golflab.search.engine.lookup`).
    """
    from ray.job_config import JobConfig

    class Config(JobConfig):
        def _serialize(self) -> str:
            self._py_driver_sys_path = []
            return super()._serialize()

    return Config()


@contextmanager
def _on_loopback_only() -> Iterator[None]:
    """While this is active, Ray's processes are started so that they listen on the loopback interface only."""
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
    """Silence Ray's loggers, because the live table uses the terminal; a trial's errors are in its record and its log."""
    for name in ("ray", "ray.tune", "ray.train", "ray.data", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
