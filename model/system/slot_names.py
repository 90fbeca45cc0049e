"""The slot of each technique, read from the sources without importing them, for analyses, which import no torch."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def slot_names() -> dict[str, str]:
    """Technique name -> the slot it fills, for every file under ``model/techniques``."""
    found = {}
    for path in sorted(ROOT.glob("techniques/*/*.py")):
        if path.stem != "__init__" and (slot := _slot(path)):
            found[path.stem] = slot
    return found


def _slot(path: Path) -> str | None:
    """The slot that a file's classes assign; where they assign none, that of a base class which the file imports."""
    tree = _parsed(path)
    own = [slot for node in tree.body if (slot := _assigned(node))]
    if own:
        return own[0]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("model."):
            names = {alias.name for alias in node.names}
            origin = ROOT.joinpath(*str(node.module).split(".")[2:]).with_suffix(".py")
            bases = _parsed(origin).body if origin.is_file() else []
            for base in bases:
                if isinstance(base, ast.ClassDef) and base.name in names and (slot := _assigned(base)):
                    return slot
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
