"""Watches which files an evaluator opens: in this process while it scores, or in a fresh one from its loading on.

Python announces every file it opens and every connection it makes to audit hooks (PEP 578). What a C library reads by
itself shows in the process's memory maps, or as more bytes read than the announced files have.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from model.audit import Package

SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/", "/lib", "/bin/", "/opt/")
CODE = re.compile(r"\.(py|pyc|pth|so(\.[\d.]+)?)$|\.dist-info/[^/]+$")
# What setuptools writes beside this package in an editable installation, and plug-in discovery reads in every process.
INSTALLED = ("entry_points.txt", "PKG-INFO", "requires.txt", "top_level.txt")
UNSEEN = 8_000_000  # bytes read beyond the files seen that still count as the interpreter's own business
TIMEOUT = 600
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Fresh:
    """What happened in a fresh process: scores, undeclared files and connections, or why it failed."""

    nats: np.ndarray
    opened: list[str]
    error: str = ""


class _Watch:
    """Collects what audit hooks tell; a hook cannot be removed, so there is one, and it can be switched off."""

    def __init__(self) -> None:
        self.on, self.hooked = False, False
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            mode, flags = arguments[1], arguments[2] if len(arguments) > 2 else 0
            writes = (mode is not None and "r" not in str(mode)) or bool(int(flags or 0) & os.O_WRONLY)
            if not writes:
                self.seen.append(os.path.realpath(os.fsdecode(arguments[0])))
        elif event == "socket.connect":
            self.seen.append(f"the network ({arguments[1]})")

    @contextlib.contextmanager
    def watching(self) -> Iterator[list[str]]:
        """Collect what is opened inside."""
        if not self.hooked:
            sys.addaudithook(self)
            self.hooked = True
        self.on, self.seen = True, []
        try:
            yield self.seen
        finally:
            self.on = False


_watch = _Watch()


def watch(action: Callable[[], Any]) -> list[str]:
    """Files an action opens in this process that are neither code nor the system's, and new memory maps of files."""
    before = set(_mapped())
    with _watch.watching() as seen:
        action()
    return sorted({path for path in [*seen, *(set(_mapped()) - before)] if not _harmless(path)})


def watch_fresh(package: Package, tokens: np.ndarray) -> Fresh:
    """Load the package in a fresh process, score ``tokens`` there, and report what it opened."""
    request = {
        "factory": package.factory,
        "arguments": list(package.arguments),
        "declared": [os.path.realpath(path) for path in (*package.files, *package.code, *package.free)],
        "tokens": np.asarray(tokens).tolist(),
        "path": [os.path.realpath(path or ".") for path in [str(ROOT), *sys.path]],
    }
    command = [sys.executable, "-m", "model.audit_process"]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(request["path"])}
    try:
        with tempfile.TemporaryDirectory() as nowhere:  # relative paths lead to nothing
            done = subprocess.run(
                command,
                input=json.dumps(request),
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
                cwd=nowhere,
                env=paths,
            )
    except subprocess.TimeoutExpired:
        return Fresh(np.zeros(0), [], f"it took longer than {TIMEOUT} seconds")
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return Fresh(np.zeros(0), [], (done.stderr.strip().splitlines() or ["it ended without a word"])[-1])
    answer = json.loads(lines[-1])
    return Fresh(np.array(answer["nats"], dtype=np.float64), answer["opened"])


def _harmless(path: str, declared: tuple[str, ...] = ()) -> bool:
    """Whether a path is the interpreter's, the system's, a library's code, or declared."""
    if not path.startswith("/"):
        return False
    if any(path == own or path.startswith(own + "/") for own in declared):
        return True
    if (
        path == os.path.realpath(sys.executable)
        or any(path.startswith(place) for place in SYSTEM)
        or os.path.isdir(path)
        or not os.path.exists(path)
    ):
        return True
    if os.path.dirname(path) == os.path.realpath(ROOT / "golflab.egg-info") and os.path.basename(path) in INSTALLED:
        return True
    libraries = {os.path.realpath(place) for place in (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())}
    return any(path.startswith(place) for place in libraries) and bool(CODE.search(path))


def _mapped() -> list[str]:
    """Files mapped into this process's memory."""
    with contextlib.suppress(OSError), open("/proc/self/maps") as maps:
        return sorted({line.split(maxsplit=5)[5].strip() for line in maps if "/" in line})
    return []


def _read_bytes() -> int:
    """Bytes this process has read so far, by whatever library; 0 where the system does not tell."""
    with contextlib.suppress(OSError), open("/proc/self/io") as facts:
        return int(next(line for line in facts if line.startswith("rchar")).split()[1])
    return 0


def by_input(answer: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What ``score`` answered, by input: (count,) nats, NaN where there are none, and how often each was settled.

    Raises:
        ValueError: an array of another shape.
    """
    if isinstance(answer, np.ndarray | list) or hasattr(answer, "__array__"):
        nats = np.asarray(answer, dtype=np.float64)
        if nats.shape != (count,):
            raise ValueError(
                f"audit: score() of {count + 1} tokens gave shape {nats.shape}; one number per target is ({count},)."
            )
        return nats, np.ones(count, dtype=np.int64)
    nats, times = np.full(count, np.nan), np.zeros(count, dtype=np.int64)
    for inputs, piece in answer:
        nats[np.asarray(inputs)] = np.asarray(piece, dtype=np.float64)
        np.add.at(times, np.asarray(inputs), 1)
    return nats, times


def _serve() -> None:
    """What the fresh process does: read a request, load, score, answer."""
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    import importlib

    declared = tuple(request["declared"])
    with _watch.watching() as seen:
        started = _read_bytes()
        module, _, function = request["factory"].partition(":")
        evaluator = getattr(importlib.import_module(module), function)(*request["arguments"])
        tokens = np.array(request["tokens"], dtype=np.int64)
        nats, _ = by_input(evaluator.score(tokens), len(tokens) - 1)
        read = _read_bytes() - started
    opened = sorted({path for path in [*seen, *_mapped()] if not _harmless(path, declared)})
    known = sum(os.path.getsize(p) for p in [*seen, *declared] if os.path.isfile(p))
    if not opened and read > 2 * known + UNSEEN:
        opened = [f"{read - known:,} bytes from files it never showed"]
    print(json.dumps({"nats": nats.tolist(), "opened": opened}))


if __name__ == "__main__":
    _serve()
