"""The audit's fresh process: it reads a request, loads the evaluator, scores a text and answers.

It needs Python and NumPy only; nothing else of golflab is available to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

NETWORK = ("connect", "sendto", "sendmsg", "bind", "getaddrinfo", "gethostbyname", "gethostbyaddr")
PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
READY = "ready"  # the first line of the answer: what fails from here on is the evaluator's


class Watch:
    """Collects events of Python's audit hooks (PEP 578). A hook cannot be removed, so there is one that can be switched off."""

    def __init__(self) -> None:
        self.on, self.hooked = False, False
        self.seen: list[str] = []
        self.there: list[str] = []
        self.made: list[str] = []
        self.programs: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            mode, flags = str(arguments[1]), int((arguments[2] if len(arguments) > 2 else 0) or 0)
            if flags & os.O_CREAT or mode[:1] in ("w", "x", "a"):
                self._make(arguments[0])
            if not flags & os.O_WRONLY and mode[:1] not in ("w", "x", "a"):
                self._file(arguments[0])
        elif event == "os.mkdir":
            self._make(arguments[0])
        elif event == "sqlite3.connect" or (event == "ctypes.dlopen" and os.sep in str(arguments[0])):
            self._file(arguments[0])
        elif event.startswith("socket.") and event[7:] in NETWORK:
            self.seen.append(f"the network ({event[7:]} {arguments[-1 if event[7:] in NETWORK[:4] else 0]})")
        elif event in PROGRAMS:
            self.programs.append(f"the program {os.fsdecode(arguments[0] or '')}"[:200])

    def _make(self, path: Any) -> None:
        """Remember files that this process creates: it may read them again."""
        if isinstance(path, str | bytes | os.PathLike) and not os.path.exists(path):
            self.made.append(os.path.realpath(os.fsdecode(path)))

    def _file(self, path: Any) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            plain = os.path.abspath(os.fsdecode(path))
            real = os.path.realpath(plain)
            own = any(real == made or real.startswith(made + os.sep) for made in self.made)
            if not own and not plain.startswith(("/proc/self/", "/proc/thread-self/")):
                self.seen.append(real)
                self.there += [real] if os.path.exists(real) else []

    @contextlib.contextmanager
    def watching(self) -> Iterator[list[str]]:
        """Collect what is opened inside."""
        if not self.hooked:
            sys.addaudithook(self)
            self.hooked = True
        self.on, self.seen, self.there, self.made, self.programs = True, [], [], [], []
        try:
            yield self.seen
        finally:
            self.on = False


WATCH = Watch()


def watch(action: Callable[[], Any]) -> list[str]:
    """Files an action opens in this process, connections it makes, and files newly mapped into memory."""
    before = set(mapped())
    with WATCH.watching() as seen:
        action()
    return sorted({*seen, *(set(mapped()) - before)})


def mapped() -> list[str]:
    """Files mapped into this process's memory."""
    with contextlib.suppress(OSError), open("/proc/self/maps") as maps:
        return sorted({line.split(maxsplit=5)[5].strip() for line in maps if "/" in line})
    return []


def read_bytes() -> int:
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


def serve() -> None:
    """Read a request from the standard input, load, score, and answer in two lines."""
    import importlib

    request = json.load(sys.stdin)
    answer = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)  # the evaluator's standard input is empty, and its output is not part of the answer
    os.dup2(2, 1)
    print(READY, file=answer, flush=True)
    nats: list[float] = []
    error = ""
    started = read_bytes()
    with WATCH.watching() as seen:
        try:
            for name in request.get("modules", ()):
                importlib.import_module(name)
            if request["factory"]:
                module, _, function = request["factory"].partition(":")
                evaluator = getattr(importlib.import_module(module), function)(*request["arguments"])
                tokens = np.array(request["tokens"], dtype=np.int64)
                nats = by_input(evaluator.score(tokens), len(tokens) - 1)[0].tolist()
        except BaseException as failure:  # whatever the error is, the files opened before are reported
            error = f"{type(failure).__name__}: {failure}"
    read = read_bytes() - started
    report: dict[str, Any] = {"nats": nats, "error": error, "seen": seen, "there": WATCH.there, "programs": WATCH.programs}
    report |= {"mapped": mapped(), "read": read, "modules": sorted({name.partition(".")[0] for name in sys.modules})}
    print(json.dumps(report), file=answer, flush=True)
    os._exit(0)  # threads and children of the evaluator are not waited for


if __name__ == "__main__":
    serve()
