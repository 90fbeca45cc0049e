"""How many planted faults do the tests notice? ``python -m benchmarks.mutation --each 20``: half an hour on two cores.

One fault at a time is planted in a copy of the project: a comparison turned round or moved by its boundary, a sum made a
difference, a condition negated, a constant changed, a statement left out. Then the module's own tests run. A fault is
*killed* where a test fails. One that survives is listed with its line: either a test is missing, or the fault changes nothing
that anybody could see.

The faults are a sample: the same one for the same ``--seed``, and an edit elsewhere in the module leaves it nearly as it was.
Messages, annotations, decorators and imports are left alone. A constant becomes one more, and one of at least 100 twice as
much: 2,001 draws instead of 2,000 are no fault.

The libraries are imported once; every fault is tried in a process forked from there, which imports the project afresh. A run
without a fault notes which tests execute which lines and how long they take: a fault is shown to the tests that execute its
line, the quickest first, and to all of them where the line is executed while importing or in a process of its own.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import functools
import hashlib
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from benchmarks.mutation_tests import COPIED, LIBRARIES, PATIENCE, TESTS

ROOT = Path(__file__).resolve().parent.parent
OTHER = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A planted fault: where, what stood there, and what stands there now."""

    module: str
    line: int
    before: str
    after: str
    start: int
    end: int

    def planted(self, source: bytes) -> bytes:
        """The module's source with the fault in it."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def faults(module: str) -> list[Fault]:
    """Every fault that can be planted in a module."""
    source = (ROOT / module).read_bytes()
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    found = []
    for node, new in _changes(ast.parse(source)):
        start, end = lines[node.lineno - 1] + node.col_offset, lines[node.end_lineno - 1] + node.end_col_offset
        text = "pass" if new is None else f"({ast.unparse(new)})" if isinstance(new, ast.expr) else ast.unparse(new)
        found.append(Fault(module, node.lineno, source[start:end].decode(), text, start, end))
    return found


def _changes(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, ast.expr | None]]:
    """Nodes that are worth changing, and what to put there; None leaves a statement out."""
    for node in _code(tree):
        new = copy.deepcopy(node)
        if isinstance(new, ast.Compare) and type(new.ops[0]) in OTHER:
            new.ops[0] = OTHER[type(new.ops[0])]()
            yield node, new
        elif isinstance(new, ast.BinOp | ast.BoolOp) and type(new.op) in OTHER:
            new.op = OTHER[type(new.op)]()
            yield node, new
        elif isinstance(new, ast.UnaryOp) and isinstance(new.op, ast.Not):
            yield node, new.operand
        elif isinstance(new, ast.Constant) and isinstance(new.value, bool):
            yield node, ast.Constant(not new.value)
        elif isinstance(new, ast.Constant) and isinstance(new.value, int | float):
            yield node, ast.Constant(new.value * 2 if abs(new.value) >= 100 else new.value + 1)
        elif isinstance(new, ast.IfExp):
            new.body, new.orelse = new.orelse, new.body
            yield node, new
        elif isinstance(node, ast.If | ast.While):
            yield node.test, ast.UnaryOp(ast.Not(), copy.deepcopy(node.test))
        elif (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)) or isinstance(node, ast.AugAssign):
            yield node, None


def _code(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """What is run, without messages of errors, formatted text, annotations, decorators and imports."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return
    left_out = {"annotation", "returns", "decorator_list", "type_comment"}
    if isinstance(node, ast.expr | ast.stmt):
        yield node
    for name, value in ast.iter_fields(node):
        if name not in left_out:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _code(child)


def sampled(module: str, each: int, seed: int) -> list[Fault]:
    """So many of the module's faults, by a hash of each: a fault keeps its place in the draw when other lines change."""
    seen: Counter[tuple[str, str]] = Counter()
    order = {}
    for fault in faults(module):
        what = fault.before, fault.after
        order[hashlib.sha256(repr((seed, module, *what, seen[what])).encode()).digest()] = fault
        seen[what] += 1
    return [order[key] for key in sorted(order)[:each]]


class Watch:
    """A pytest plugin: which lines of a module each test executes, and how long it takes."""

    def __init__(self, path: Path) -> None:
        self.path, self.lines, self.seconds = str(path), set[int](), dict[str, float]()
        self.reached: dict[str, list[int]] = {}

    def trace(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        """Look at the lines of the module's functions."""
        return self._line if frame.f_code.co_filename == self.path else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        self.lines.add(frame.f_lineno)
        return self._line

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Around one test."""
        self.lines.clear()
        sys.settrace(self.trace)
        threading.settrace(self.trace)
        began = time.monotonic()
        yield
        sys.settrace(None)
        self.seconds[item.nodeid], self.reached[item.nodeid] = time.monotonic() - began, sorted(self.lines)

    def pytest_sessionfinish(self) -> None:
        """Leave what was seen in the folder the tests ran in."""
        Path("watched.json").write_text(json.dumps([self.reached, self.seconds]))


class Chosen:
    """A pytest plugin: runs some of the tests, in a given order."""

    def __init__(self, names: list[str]) -> None:
        self.place = {name: i for i, name in enumerate(names)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave only those, in their order."""
        items[:] = sorted((i for i in items if i.nodeid in self.place), key=lambda i: self.place[i.nodeid])


def watched(module: str, folder: Path) -> tuple[dict[str, list[int]], dict[str, float]]:
    """Run a module's tests without a fault: test -> lines it executes, test -> seconds.

    Raises:
        SystemExit: a test fails.
    """
    if not _ended(_forked(folder, TESTS[module], Watch(folder / module)), None):
        raise SystemExit(f"{module}: its tests fail without any fault; mend that first.")
    reached, seconds = json.loads((folder / "watched.json").read_text())
    return reached, seconds


def chosen(fault: Fault, reached: dict[str, list[int]], seconds: dict[str, float]) -> list[str]:
    """The tests that execute a fault's lines, the quickest first; all of them where none is seen to."""
    lines = set(range(fault.line, fault.line + fault.before.count("\n") + 1))
    names = [name for name, seen in reached.items() if lines & set(seen)]
    return sorted(names or reached, key=lambda name: seconds[name])


def survives(fault: Fault, folder: Path, names: list[str], patience: float) -> bool | None:
    """Whether tests pass in a copy of the project that holds the fault; None: they took more than ``patience`` seconds."""
    path = folder / fault.module
    source = path.read_bytes()
    path.write_bytes(fault.planted(source))
    files = tuple(dict.fromkeys(name.split("::")[0] for name in names))
    try:
        return _ended(_forked(folder, files, Chosen(names)), patience)
    finally:
        path.write_bytes(source)


def _ended(child: int, patience: float | None) -> bool | None:
    """Wait for a process of tests: whether they passed, or None where it had to be ended."""
    end = time.monotonic() + (patience or float("inf"))
    try:
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                if code in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
                    raise RuntimeError(f"no tests were run: pytest ended with {code}")
                return code == 0
            time.sleep(0.1)
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # and what its tests have left behind
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def _forked(folder: Path, files: tuple[str, ...], plugin: object) -> int:
    """The process id of tests that run in ``folder``."""
    if child := os.fork():
        return child
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.environ |= {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        sys.dont_write_bytecode = True
        sys.path[:] = [str(folder), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
        for name in [n for n in sys.modules if n.split(".")[0] == "benchmarks"]:
            del sys.modules[name]
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        code = int(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", *files], plugins=[plugin]))
    finally:
        os._exit(code)


def _tried(fault: Fault, scratch: Path, reached: dict[str, list[int]], seconds: dict[str, float]) -> bool | None:
    folder = scratch / str(os.getpid())
    if not folder.exists():
        shutil.copytree(scratch / "project", folder)
    return survives(fault, folder, chosen(fault, reached, seconds), 60 + PATIENCE * sum(seconds.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=20, help="faults a module")
    parser.add_argument("--module", nargs="*", choices=list(TESTS), default=list(TESTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    for library in LIBRARIES:
        importlib.import_module(library)
    with tempfile.TemporaryDirectory(prefix="mutation") as name:
        scratch = Path(name).resolve()
        _copy(scratch / "project")
        with multiprocessing.get_context("fork").Pool(given.processes) as pool:
            for module in given.module:
                reached, seconds = watched(module, scratch / "project")
                sample = sampled(module, given.each, given.seed)
                attempt = functools.partial(_tried, scratch=scratch, reached=reached, seconds=seconds)
                _tell(module, sample, pool.map(attempt, sample, chunksize=1))


def _tell(module: str, sample: list[Fault], lives: list[bool | None]) -> None:
    alive = [f for f, passed in zip(sample, lives, strict=True) if passed]
    killed, late = len(sample) - len(alive), lives.count(None)
    print(
        f"{module}: {killed} of {len(sample)} killed ({killed / len(sample):.0%}; {late} of them took too long), "
        f"{len(faults(module))} possible",
        flush=True,
    )
    for f in sorted(alive, key=lambda f: f.line):
        print(f"    line {f.line}: {' '.join(f.before.split())[:70]}  ->  {' '.join(f.after.split())[:70]}", flush=True)


def _copy(folder: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)


if __name__ == "__main__":
    main()
