"""Runs a program that sees only the files it may see, or under a trace of all files it opens; see `run`.

``namespaces``: Linux namespaces with a root folder of their own, no network and no other process
(`golflab.model.isolation.enter`). ``strace``: the program runs as usual, and every file that it or its children open is
recorded by strace.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from golflab.model.isolation.tracing import FORBIDDEN, OPENING, SENDING, undeclared
from golflab.model.isolation.view import View, interpreter

MECHANISMS = ("namespaces", "strace")
TIMEOUT = 600.0  # seconds
MEMORY_SHARE = 0.8  # of the machine's memory, for all processes of the program together
FILES = 2_000_000_000  # bytes the program may write, in memory
MARK = "GOLFLAB_AUDIT"  # environment variable of every process that is run here
LOOK = 0.25  # seconds between two checks of time and memory
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
ENTER = Path(__file__).with_name("enter.py")
# Reads the modules' folders from its arguments and runs a script; nothing is read from the environment.
BOOT = "import json,runpy,sys; path=json.loads(sys.argv[1]); sys.path[:]=path; runpy.run_path(sys.argv[2],run_name='__main__')"


@dataclass(frozen=True)
class Ran:
    """How a program ran.

    Attributes:
        output: what it printed.
        problem: why it did not finish; empty if it did.
        timed_out: whether it was stopped because it took too long.
        opened: what was seen by ``strace``: what it opened outside the view, or tried to in namespaces.
        seconds: how long it took.
    """

    output: str
    problem: str = ""
    timed_out: bool = False
    opened: tuple[str, ...] = ()
    seconds: float = 0.0


def run(
    mechanism: str,
    script: Path,
    path: list[str],
    stdin: str,
    view: View,
    *,
    timeout: float = TIMEOUT,
    memory: int | None = None,
) -> Ran:
    """Run a Python script in a fresh process.

    Args:
        mechanism: ``namespaces``, ``strace``, or nothing: as a child that inherits environment and open files.
        script: what is run.
        path: where it finds modules.
        stdin: text for its standard input.
        view: what it may see.
        timeout: seconds after which all its processes are killed.
        memory: bytes all its processes may have together; most of the machine's by default.

    Raises:
        OSError: the mechanism is not available here.
    """
    tracer = shutil.which("strace")
    if mechanism == "strace" and tracer is None:
        raise OSError("strace is not installed")
    with tempfile.TemporaryDirectory(prefix="golflab-") as folder:
        empty, log = os.path.join(folder, "empty"), os.path.join(folder, "trace")  # relative paths lead to nothing
        os.mkdir(empty)
        last = [BOOT, json.dumps(path), str(script)]
        limits = (stdin, empty, timeout, memory or _most_memory())
        if not mechanism:
            variables = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
            return _limited([sys.executable, "-B", "-c", *last], variables, *limits, inherits=True)
        python = [interpreter(), "-I", "-S", "-B", "-X", "utf8", "-X", f"pycache_prefix={empty}"]
        command, variables = [*python, "-c", *last], _environment(empty)
        if mechanism == "namespaces":
            command = [*python, str(ENTER), _plan(folder, command, view)]
        calls = ",".join("?" + name for name in (*OPENING, *SENDING, *FORBIDDEN))
        fast = ["--seccomp-bpf"] if mechanism == "namespaces" else []
        traced = [tracer or "", *fast, "-f", "-q", "-y", "-s", "1024", "-e", f"trace={calls}", "-e", "signal=none", "-o", log]
        ran = _limited([*(traced if tracer else []), *command], variables, *limits)
        if mechanism == "namespaces" and tracer and not ran.output and not ran.timed_out:  # tracing may be forbidden
            tracer, ran = None, _limited(command, variables, *limits)
        if tracer and os.path.exists(log):
            with open(log, errors="surrogateescape") as trace:
                ran = replace(ran, opened=tuple(undeclared(trace, view, empty, mechanism == "namespaces")))
        return ran


def _environment(home: str) -> dict[str, str]:
    """Environment variables of an isolated program: of the caller's only the numbers of threads and devices."""
    kept = {name: value for name in THREADS if re.fullmatch(r"[\w,.-]{1,64}", value := os.environ.get(name, ""))}
    libraries = [place for place in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if os.path.isdir(place)]
    if libraries:
        kept["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
    return kept | {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": home, "USER": "audit", "LANG": "C.UTF-8"}


def _plan(folder: str, command: list[str], view: View) -> str:
    """Write the plan for `golflab.model.isolation.enter`; return its path."""
    root, path = os.path.join(folder, "root"), os.path.join(folder, "plan.json")
    os.mkdir(root)
    plan = {"root": root, "size": FILES, "shown": view.shown, "hidden": view.hidden, "command": command}
    with open(path, "w") as file:
        json.dump(plan | {"environment": _environment("/tmp")}, file)
    return path


# ---------------------------------------------------------------------- time and memory


def _limited(
    command: list[str], variables: dict[str, str], stdin: str, folder: str, timeout: float, memory: int, inherits: bool = False
) -> Ran:
    """Run a command until it ends, or takes too much time or memory; then all its processes are killed."""
    began = time.monotonic()
    problem, late = "", False
    with contextlib.ExitStack() as files:  # not pipes: a remaining process would keep them open
        asked, output, errors = (files.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        asked.write(stdin.encode())
        asked.seek(0)
        process = subprocess.Popen(
            command,
            stdin=asked,
            stdout=output,
            stderr=errors,
            cwd=folder,
            env=variables | {MARK: folder},
            close_fds=not inherits,
            start_new_session=True,
        )
        try:
            while not problem:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK)
                    break
                late = time.monotonic() - began > timeout
                if late:
                    problem = f"it took longer than {timeout:g} seconds"
                elif _memory(process.pid) > memory:
                    problem = f"it took more than {memory / 1e9:.1f} GB of memory"
        finally:
            _kill(process.pid, folder)
            process.wait()
        written = []
        for file in (output, errors):
            file.seek(0)
            written.append(file.read().decode(errors="replace"))
    if not problem and process.returncode:
        problem = (written[1].strip().splitlines() or [f"it ended with {process.returncode} and without a message"])[-1]
    return Ran(written[0], problem, late, (), time.monotonic() - began)


def _kill(group: int, folder: str) -> None:
    """Kill a group of processes, and those that left it, which are found by the mark in their environment."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    mark = f"{MARK}={folder}".encode()
    for _ in range(10):  # some may be starting others
        left = [int(pid) for pid in _numbers("/proc") if mark in _bytes(f"/proc/{pid}/environ").split(b"\0")]
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return


def _numbers(folder: str) -> list[str]:
    return [name for name in os.listdir(folder) if name.isdigit()] if os.path.isdir(folder) else []


def _bytes(path: str) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""


def _most_memory() -> int:
    return int(MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _memory(pid: int) -> int:
    """Bytes of memory that a process and its descendants hold; 0 where the system does not report it."""
    pages = _bytes(f"/proc/{pid}/statm").split()
    children = [
        child for task in _numbers(f"/proc/{pid}/task") for child in _bytes(f"/proc/{pid}/task/{task}/children").split()
    ]
    mine = int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0
    return mine + sum(_memory(int(child)) for child in children)
