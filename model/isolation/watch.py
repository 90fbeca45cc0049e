"""Judges which files an evaluator reads: in this process while it scores, or in a fresh one from its loading on.

The fresh process sees only declared files, if the system has namespaces; or strace records what it and its children open. If
neither is available, only Python's own audit hooks are left: what they find is a breach, but finding nothing proves nothing.
"""

from __future__ import annotations

import json
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import golflab
from golflab.model.isolation import inside
from golflab.model.isolation.inside import READY, by_input
from golflab.model.isolation.namespaces import MECHANISMS, Ran, run
from golflab.model.isolation.tracing import of_system
from golflab.model.isolation.view import LIBRARIES, view

if TYPE_CHECKING:
    from golflab.model.audit.verdict import Package

__all__ = ["Fresh", "by_input", "verdict_of_files", "watch", "watch_fresh"]

CODE = re.compile(r"\.(py|pyc|pth|so(\.[\d.]+)?)$|\.dist-info/[^/]+$")
UNSEEN = 8_000_000  # bytes read beyond the files seen that still count as the interpreter's own business
SAME = 1e-3  # nats; scores that differ by less do so for numerical reasons
ROOT = Path(golflab.__file__).resolve().parents[1]
RUNNER = Path(inside.__file__).resolve()
UNDECLARED = "something that is not declared"


@dataclass
class Fresh:
    """What happened in a fresh process.

    Attributes:
        nats: (n,) scores; of a process that sees everything where the isolated one had none.
        opened: undeclared files and connections, or what shows that there are some.
        error: why it failed though it could see everything; empty where it did not.
        isolated: how it was isolated: ``namespaces``, ``strace``, or not at all.
        unchecked: why it cannot be said here what it read; empty where it can.
        seconds: how long it took.
        programs: programs it tried to start.
        modules: top-level modules it imported.
    """

    nats: np.ndarray
    opened: list[str]
    error: str = ""
    isolated: str = ""
    unchecked: str = ""
    seconds: float = 0.0
    programs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


def verdict_of_files(fresh: Fresh, package: Package) -> tuple[str, str]:
    """State and evidence of condition 7: ``breach``, ``unchecked`` or ``pass``.

    Args:
        fresh: result of `watch_fresh`.
        package: that was loaded.
    """
    if fresh.opened:
        more = " …" if len(fresh.opened) > 3 else ""
        return "breach", f"a fresh process read or needs {', '.join(fresh.opened[:3])}{more}, not declared"
    if fresh.error:
        return "unchecked", f"a fresh process did not load and score it: {fresh.error}"
    if fresh.unchecked:
        return "unchecked", fresh.unchecked
    files = len(package.files) + len(package.free)
    how = {"namespaces": "in which nothing else exists", "strace": "traced with its children"}[fresh.isolated]
    return "pass", f"a fresh process, {how}, read nothing but code and {files} declared files"


def watch(action: Callable[[], Any]) -> list[str]:
    """Files an action opens in this process that are neither code nor the system's, and new memory maps of files."""
    return [what for what in inside.watch(action) if not _harmless(what)]


def watch_fresh(
    package: Package, tokens: np.ndarray, expected: np.ndarray | None = None, mechanisms: tuple[str, ...] = MECHANISMS
) -> Fresh:
    """Load the package in a fresh process that sees only what is declared, score ``tokens`` there, and report.

    Args:
        package: what is loaded.
        tokens: (n,) ids.
        expected: (n-1,) nats as scored elsewhere; if the isolated process gives other scores, and a process that sees
            everything does not, then something undeclared is needed.
        mechanisms: ways to isolate it, the best first.
    """
    asked = _Asked(package, tokens)
    refused = []
    for mechanism in mechanisms:
        try:
            fresh = asked.of(mechanism)
        except OSError as error:
            refused.append(f"{mechanism}: {error}")
            continue
        other = expected is not None and not fresh.error and not _same(fresh.nats, expected)
        if not fresh.error and not other:
            return fresh
        free = asked.of("")
        if fresh.error and not fresh.opened and not free.error and not asked.libraries_load(mechanism, free.modules):
            refused.append(f"{mechanism}: libraries do not load")
            continue
        return _compared(fresh, free)
    free = asked.of("")
    why = "; ".join(refused) or "no way to isolate it was asked for"
    free.unchecked = f"what a process reads can be seen neither by namespaces nor by strace here ({why})"
    return free


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=0, atol=SAME, equal_nan=True))


def _compared(fresh: Fresh, free: Fresh) -> Fresh:
    """An isolated run that failed or gave other scores, judged by one that sees everything."""
    needs = not free.error and (bool(fresh.error) or not _same(fresh.nats, free.nats))
    seen = list(fresh.opened)
    if needs and not seen:
        hints = [*free.opened, *(fresh.programs or free.programs)][:2]
        seen = [f"{UNDECLARED} ({fresh.error or 'without it the scores differ'}{''.join('; ' + h for h in hints)})"]
    fresh.opened, fresh.error = seen, free.error and fresh.error
    fresh.nats = free.nats if needs or fresh.error else fresh.nats
    return fresh


class _Asked:
    """A package and a text, to be asked in several ways."""

    def __init__(self, package: Package, tokens: np.ndarray) -> None:
        self.package = package
        self.request = {
            "factory": package.factory,
            "arguments": list(package.arguments),
            "tokens": np.asarray(tokens).tolist(),
        }
        self.path = _module_folders(package)
        self.view = view((*package.files, *package.code, RUNNER), package.free)

    def of(self, mechanism: str) -> Fresh:
        """Score in a process isolated in one way.

        Raises:
            OSError: it could not be started that way.
        """
        ran = run(mechanism, RUNNER, self.path, json.dumps(self.request), self.view)
        first, _, rest = ran.output.partition("\n")
        if mechanism and (first != READY):
            raise OSError(ran.problem or "the process did not start")
        return self._read(mechanism, ran, rest)

    def _read(self, mechanism: str, ran: Ran, answer: str) -> Fresh:
        """What a run says."""
        fresh = Fresh(np.zeros(0), list(ran.opened), ran.problem, mechanism, "", ran.seconds)
        if not answer.strip():
            fresh.error = ran.problem or "it ended without a message"
            return fresh
        report = json.loads(answer.strip().splitlines()[-1])
        fresh.nats, fresh.error = np.array(report["nats"], dtype=np.float64), report["error"]
        fresh.programs, fresh.modules = tuple(report["programs"]), tuple(report["modules"])
        inside = mechanism == "namespaces"  # there, nothing undeclared is to be had: it may only be tried
        seen = [*report["seen"], *([] if inside else report["mapped"])] if mechanism != "strace" else []
        there = set() if inside else set(report["there"])
        fresh.opened += sorted({what for what in seen if not self._allowed(what, there)} - set(fresh.opened))
        if not mechanism and not fresh.opened:
            declared = [*self.package.files, *self.package.code, *self.package.free]
            known = sum(os.path.getsize(p) for p in [*report["seen"], *map(str, declared)] if os.path.isfile(p))
            if report["read"] > 2 * known + UNSEEN:
                fresh.opened = [f"{report['read'] - known:,} bytes from files it never showed"]
        return fresh

    def _allowed(self, what: str, there: set[str]) -> bool:
        """Whether something seen is no breach: shown, the system's, or nothing that exists or was ``there``."""
        if not what.startswith("/"):
            return False
        source = re.sub(r"__pycache__/(.+?)\.[^/]*\.pyc$", r"\1.py", what)
        if os.path.isdir(what):
            return True  # libraries look into all folders of modules; what is in them is another file
        exists = what in there or os.path.exists(what)
        return not exists or self.view.allows(what) or self.view.allows(source) or _systems(what)

    def libraries_load(self, mechanism: str, used: tuple[str, ...]) -> bool:
        """Whether the known libraries among the modules used load when isolated: if not, that is our own failure."""
        modules = [name for library in LIBRARIES if (name := library.replace("-", "_")) in used]
        request = json.dumps({"factory": "", "modules": modules})
        ran = run(mechanism, RUNNER, self.path, request, self.view)
        lines = ran.output.strip().splitlines()
        return len(lines) > 1 and not json.loads(lines[-1])["error"]


def _module_folders(package: Package) -> list[str]:
    """Where the fresh process looks for modules: as this one, and where declared code and the factory's module are."""
    roots = []
    for path in package.code:
        folder = os.path.abspath(path if path.is_dir() else path.parent)
        while os.path.exists(os.path.join(folder, "__init__.py")) or folder == os.path.abspath(path):
            folder = os.path.dirname(folder)
        roots.append(folder)
    with_spec = util.find_spec(package.factory.partition(":")[0].partition(".")[0])
    places: Iterable[str] = list((with_spec and with_spec.submodule_search_locations) or ())[:1]
    roots += [os.path.dirname(os.path.abspath(place)) for place in places]
    if with_spec and with_spec.origin and not places:
        roots.append(os.path.dirname(os.path.abspath(with_spec.origin)))
    return list(dict.fromkeys(os.path.realpath(path or ".") for path in [*sys.path, str(ROOT), *roots]))


def _harmless(path: str) -> bool:
    """Whether something opened is the system's, the interpreter's, a folder, nothing at all, or a library's code."""
    if not path.startswith("/"):
        return False
    libraries = {os.path.realpath(place) for place in (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())}
    code = any(path.startswith(place + "/") for place in libraries) and bool(CODE.search(path))
    return code or _systems(path) or os.path.isdir(path) or not os.path.exists(path)


def _systems(path: str) -> bool:
    """Whether a path is one that libraries ask for unasked, or Python itself."""
    return path == os.path.realpath(sys.executable) or of_system(path)
