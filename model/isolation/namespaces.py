"""Runs a program that sees nothing but what it is shown, or under a trace of all it opens; see `run`.

``namespaces``: Linux namespaces with an own root folder, no network and no other process (`golflab.model.isolation.enter`).
``strace``: the program runs as usual, and every file that it or its children open is written down by the system's tracer.
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
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from golflab.model.isolation.view import View, interpreter

MECHANISMS = ("namespaces", "strace")
TIMEOUT = 600.0  # seconds
MEMORY_SHARE = 0.8  # of the machine's memory, for all processes of the program together
FILES = 2_000_000_000  # bytes the program may write, in memory
MARK = "GOLFLAB_AUDIT"  # environment variable of every process that is run here
LOOK = 0.25  # seconds between two looks at time and memory
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
ENTER = Path(__file__).with_name("enter.py")
# Reads the modules' folders from its arguments and runs a script; nothing is read from the environment.
BOOT = "import json,runpy,sys; path=json.loads(sys.argv[1]); sys.path[:]=path; runpy.run_path(sys.argv[2],run_name='__main__')"

PLUG_INS = 8192  # bytes a library's list of plug-ins may have: looking for some reads those of all libraries
# What programs ask the system for without being asked to: names, time zones, languages, facts about the machine.
SYSTEM = re.compile(
    r"/sys/|/proc/(self/|thread-self/|sys/|driver/|(cpuinfo|meminfo|stat|filesystems|mounts|version)$)"
    r"|/dev/(null|zero|full|u?random|tty|nvidia.*)$"
    r"|/etc/(ld\.so\.(cache|preload)|localtime|timezone|os-release|passwd|group|hosts|host\.conf|resolv\.conf|nsswitch\.conf"
    r"|gai\.conf|mime\.types|machine-id|locale\.alias)$|/usr/lib/os-release$|/usr/share/zoneinfo/|/usr/(lib|share)/locale/"
    r"|/etc/(ssl|pki/tls)/openssl\.cnf$|/usr/lib(/[\w-]+)?/(gconv/|libnss_\w+\.so\.2$)|(/usr)?/s?bin/(uname|ldconfig|ldconfig\.real)$"
)
# A way to reach memory or files of others without opening them by name, for whoever may.
FORBIDDEN = ("open_by_handle_at", "process_vm_readv", "pidfd_getfd", "ptrace", "io_uring_setup", "shmat", "mq_open", "keyctl")
OPENING = ("open", "openat", "openat2", "creat", "execve", "execveat", "clone", "clone3")
SENDING = ("connect", "bind", "sendto", "sendmsg", "sendmmsg")


def of_system(path: str) -> bool:
    """Whether a path is one that programs and libraries ask for without being asked to."""
    plug_ins = re.search(r"\.(dist|egg)-info/(entry_points|top_level|requires)\.txt$|\.egg-info/PKG-INFO$", path)
    return bool(SYSTEM.match(path)) or (plug_ins is not None and os.path.isfile(path) and os.path.getsize(path) <= PLUG_INS)


@dataclass(frozen=True)
class Ran:
    """How a program ran.

    Attributes:
        output: what it printed.
        problem: why it did not come to its end; empty otherwise.
        timed_out: whether it was ended for the time it took.
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
    told: str,
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
        told: its standard input.
        view: what it may see.
        timeout: seconds after which all its processes are killed.
        memory: bytes all its processes may have together; most of the machine's by default.

    Raises:
        OSError: the mechanism cannot be had here.
    """
    tracer = shutil.which("strace")
    if mechanism == "strace" and tracer is None:
        raise OSError("strace is not installed")
    with tempfile.TemporaryDirectory(prefix="golflab-") as folder:
        empty, log = os.path.join(folder, "empty"), os.path.join(folder, "trace")  # relative paths lead to nothing
        os.mkdir(empty)
        last = [BOOT, json.dumps(path), str(script)]
        limits = (told, empty, timeout, memory or _most_memory())
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
    """Environment variables of an isolated program: none of the caller's but numbers of threads and devices."""
    kept = {name: value for name in THREADS if re.fullmatch(r"[\w,.-]{1,64}", value := os.environ.get(name, ""))}
    libraries = [place for place in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if os.path.isdir(place)]
    if libraries:
        kept["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
    return kept | {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": home, "USER": "audit", "LANG": "C.UTF-8"}


def _plan(folder: str, command: list[str], view: View) -> str:
    """Write down what `golflab.model.isolation.enter` is to do; the path of that."""
    root, path = os.path.join(folder, "root"), os.path.join(folder, "plan.json")
    os.mkdir(root)
    plan = {"root": root, "size": FILES, "shown": view.shown, "hidden": view.hidden, "command": command}
    with open(path, "w") as file:
        json.dump(plan | {"environment": _environment("/tmp")}, file)
    return path


# ---------------------------------------------------------------------- time and memory


def _limited(
    command: list[str], variables: dict[str, str], told: str, folder: str, timeout: float, memory: int, inherits: bool = False
) -> Ran:
    """Run a command until it ends, takes too long or too much memory; then none of its processes is left."""
    began = time.monotonic()
    problem, late = "", False
    with contextlib.ExitStack() as files:  # not pipes: a process that is left would keep them open
        asked, output, errors = (files.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        asked.write(told.encode())
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
        problem = (written[1].strip().splitlines() or [f"it ended with {process.returncode} and without a word"])[-1]
    return Ran(written[0], problem, late, (), time.monotonic() - began)


def _kill(group: int, folder: str) -> None:
    """End a group of processes, and those that left it: the mark in their environment gives them away."""
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
    """Bytes of memory that a process and its descendants hold; 0 where the system does not tell."""
    pages = _bytes(f"/proc/{pid}/statm").split()
    children = [
        child for task in _numbers(f"/proc/{pid}/task") for child in _bytes(f"/proc/{pid}/task/{task}/children").split()
    ]
    mine = int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0
    return mine + sum(_memory(int(child)) for child in children)


# ---------------------------------------------------------------------- what strace saw


def undeclared(trace: Iterable[str], view: View, own: str, inside: bool = False) -> list[str]:
    """What a trace says was opened and is neither shown nor the system's; connections, and reads of others' memory.

    Args:
        trace: lines that ``strace -f -y -o`` wrote.
        view: what the program was allowed.
        own: a folder that is the program's own.
        inside: whether it ran where nothing else exists; then what it tried in vain counts, if it exists outside.
    """
    begun: dict[str, str] = {}
    found: dict[str, None] = {}
    made: set[str] = set()
    pids: set[str] = set()
    for line in trace:
        pid, _, call = line.rstrip("\n").partition(" ")
        call = call.strip()
        pids.add(pid)
        if call.endswith("<unfinished ...>"):
            begun[pid] = call.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>", call):
            call = begun.pop(pid, "") + call[resumed.end() :]
        what = _sent(call) or (_tried(call) if inside else _opened(call, pids, made))
        if what and not (view.allows(what) or of_system(what) or what == own or what.startswith(own + "/")):
            found[what] = None
    return list(found)


def _sent(call: str) -> str:
    """Where a traced call sent something, or tried to; nothing for other calls."""
    if call.partition("(")[0] not in SENDING:
        return ""
    if address := re.search(r"sa_family=AF_INET6?, (.*?)\}", call):
        return f"the network ({address[1]})"
    socket = re.search(r'sa_family=AF_UNIX, sun_path=@?"(.*?)"', call)
    return f"the socket {socket[1]}" if socket and "nscd" not in socket[1] and " = -1 " not in call else ""


TRIED = re.compile(r'open(?:at2?)?\((?:\w+(?:<(.*?)>)?, )?"((?:[^"\\]|\\.)*)".* = -1 (?:ENOENT|EACCES|ENOTDIR)')


def _tried(call: str) -> str:
    """The path of a file outside that a traced call did not get."""
    if not (found := TRIED.match(call)):
        return ""
    path = os.path.join(_plain(found[1] or "/"), _plain(found[2]))
    compiled = path.endswith(".pyc") and os.path.basename(os.path.dirname(path)) == "__pycache__"  # it reads the source then
    if path.startswith("/proc/") or compiled or not os.path.isfile(path) or of_system(path):
        return ""
    return os.path.realpath(path)


def _opened(call: str, pids: set[str], made: set[str]) -> str:
    """What one traced call opened: a path, or words; nothing where it failed or is harmless."""
    name = call.partition("(")[0]
    if name in ("clone", "clone3"):
        return "a child that cannot be traced" if "CLONE_UNTRACED" in call else ""
    if name in FORBIDDEN:
        return "" if " = -1 " in call else f"memory or files of other processes ({name})"
    if name in ("execve", "execveat"):
        program = re.search(r'"((?:[^"\\]|\\.)*)"', call)
        return os.path.realpath(_plain(program[1])) if program and call.endswith(" = 0") else ""
    if not (result := re.search(r" = \d+<(/.*)>(\(deleted\))?$", call)):
        return ""
    path = _plain(result[1])
    if "O_CREAT" in call and "O_EXCL" in call:
        made.add(path)
    if "O_DIRECTORY" in call or os.path.isdir(path):
        return ""
    path = re.sub(r"^/proc/(\d+)/", lambda own: "/proc/self/" if own[1] in pids else own[0], path)
    return "" if path in made or "O_WRONLY" in call or "O_PATH" in call else path


def _plain(text: str) -> str:
    """A path as strace wrote it, with its escapes undone."""
    raw = re.sub(rb"\\([0-7]{1,3})", lambda octal: bytes([int(octal[1], 8)]), text.encode("utf-8", "surrogateescape"))
    return os.fsdecode(raw.replace(b'\\"', b'"').replace(b"\\\\", b"\\"))
