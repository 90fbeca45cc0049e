"""How many planted faults do the tests notice? ``python -m benchmarks.mutation --each 20``: half an hour on two cores.

One fault at a time is planted in a copy of the project: a comparison turned round, a sum made a difference, a condition
negated, a constant changed, a statement left out. Then the module's own tests run. A fault is *killed* where a test fails.
One that survives is listed with its line: either a test is missing, or the fault changes nothing that anybody could see.

The faults are a sample, the same one for the same ``--seed``. Messages, annotations and imports are left alone.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("model", "spaces", "search", "analysis", "tests", "benchmarks", "pyproject.toml")
PATIENCE = 400.0  # seconds that the tests of a module may take; a fault that makes them take longer counts as noticed
# Module -> the tests that are about it.
TESTS = {
    "model/stages.py": ("tests/test_stages.py", "tests/test_run.py"),
    "model/train.py": ("tests/test_train.py", "tests/test_interrupted.py", "tests/test_compiled.py"),
    "model/run.py": ("tests/test_run.py", "tests/test_interrupted.py", "tests/test_ways.py", "tests/test_export.py"),
    "model/gptq.py": ("tests/test_gptq.py", "tests/techniques/test_gptq.py"),
    "search/ledger.py": ("tests/test_ledger.py", "tests/test_growth.py"),
    "search/sampler.py": ("tests/test_sampler.py",),
    "analysis/paired.py": ("tests/test_paired.py",),
}
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
            yield node, ast.Constant(new.value + 1)
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


def survives(fault: Fault, folder: Path) -> bool:
    """Whether the module's tests pass in a copy of the project that holds the fault."""
    path = folder / fault.module
    source = path.read_bytes()
    path.write_bytes(fault.planted(source))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *TESTS[fault.module]]
    where = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=folder, env=where, capture_output=True, timeout=PATIENCE)
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        path.write_bytes(source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=20, help="faults a module")
    parser.add_argument("--module", nargs="*", choices=list(TESTS), default=list(TESTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutation") as scratch:
        copies: Queue[Path] = Queue()
        for number in range(given.processes):
            copies.put(_copy(Path(scratch) / str(number)))

        def tried(fault: Fault) -> bool:
            folder = copies.get()
            try:
                return survives(fault, folder)
            finally:
                copies.put(folder)

        with ThreadPoolExecutor(given.processes) as pool:
            for module in given.module:
                if not tried(Fault(module, 0, "", "", 0, 0)):
                    raise SystemExit(f"{module}: its tests fail without any fault; mend that first.")
                every = faults(module)
                sample = random.Random(f"{given.seed} {module}").sample(every, min(given.each, len(every)))
                alive = [f for f, lives in zip(sample, pool.map(tried, sample), strict=True) if lives]
                killed = len(sample) - len(alive)
                print(
                    f"{module}: {killed} of {len(sample)} killed ({killed / len(sample):.0%}), of {len(every)} possible",
                    flush=True,
                )
                for f in sorted(alive, key=lambda f: f.line):
                    print(
                        f"    line {f.line}: {' '.join(f.before.split())[:70]}  ->  {' '.join(f.after.split())[:70]}",
                        flush=True,
                    )


def _copy(folder: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    return folder


if __name__ == "__main__":
    main()
