"""The slot of each technique, read from the sources without importing them, for analyses, which import no torch."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ["golflab", "model"]


@functools.cache
def slot_names() -> dict[str, str]:
    """Technique name -> the slot it fills, for every file under ``model/techniques``."""
    found = {}
    for path in sorted(ROOT.glob("techniques/*/*.py")):
        classes = [node.name for node in _parsed(path).body if isinstance(node, ast.ClassDef)]
        slots = [slot for name in classes if (slot := _slot(path, name))]
        if path.stem != "__init__" and slots:
            found[path.stem] = slots[0]
    return found


def _slot(path: Path, name: str) -> str | None:
    """The slot that a class of a file assigns, or the first of its base classes that assigns one, in this file or another."""
    tree = _parsed(path)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
            return _assigned(node) or next((slot for base in bases if (slot := _slot(path, base))), None)
        if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in node.names):
            parts = (node.module or "").split(".")
            origin = ROOT.joinpath(*parts[2:]).with_suffix(".py")
            return _slot(origin, name) if parts[:2] == PACKAGE and origin.is_file() else None
    return None


@functools.cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _assigned(node: ast.stmt) -> str | None:
    """The text that a class assigns to ``slot`` in its body, or None."""
    for line in node.body if isinstance(node, ast.ClassDef) else []:
        if isinstance(line, ast.AnnAssign | ast.Assign) and isinstance(line.value, ast.Constant):
            targets = line.targets if isinstance(line, ast.Assign) else [line.target]
            if any(isinstance(t, ast.Name) and t.id == "slot" for t in targets):
                return str(line.value.value)
    return None
