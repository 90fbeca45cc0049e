"""Which package may import which, read off the source: analysis → model.record, search → spaces → model."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("model", "spaces", "search", "analysis")
LIGHT = {"torch", "numpy", "sentencepiece", "zstandard", "safetensors"}


def imports_of(path: Path) -> set[str]:
    """Dotted names of everything a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def allowed(package: str, path: Path, name: str) -> bool:
    if path.parent == ROOT / "search" and path.stem in ("cli", "cli_recipes"):
        return True
    target = name.partition(".")[0]
    if package == "analysis":
        return target == "analysis" or name.startswith(("model.record.", "model.slot_names."))
    below = {"model": ("model",), "spaces": ("spaces", "model"), "search": ("search", "spaces", "model")}
    return target in below[package]


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_one_way(package):
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in sorted(imports_of(path))
        if name.partition(".")[0] in PACKAGES and not allowed(package, path, name)
    ]
    assert not wrong, "\n".join(wrong)


def test_model_record_needs_no_torch():
    assert not [n for n in imports_of(ROOT / "model" / "record.py") if n.partition(".")[0] == "torch"]


def test_a_bare_machine_can_run_a_trial():
    """``import model.run`` asks for torch, numpy, sentencepiece, zstandard and safetensors alone; they bring what they need."""
    assert not first_hand(imported_by("import model.run")) - LIGHT


def test_no_file_is_named_like_a_module_of_the_standard_library():
    files = [p for package in PACKAGES for p in (ROOT / package).rglob("*.py")]
    assert not [p for p in files if p.stem in sys.stdlib_module_names]


def imported_by(statement: str) -> set[str]:
    """Modules loaded after a statement in a fresh process, and by whom they could have been asked for."""
    script = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def first_hand(loaded: set[str]) -> set[str]:
    """Foreign top-level packages that a loaded file of ours names in a statement at its top."""
    asked = set()
    for name in loaded:
        path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
        if name.partition(".")[0] in PACKAGES and path.exists():
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.Import):
                    asked |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    asked.add(str(node.module).partition(".")[0])
    return asked - set(sys.stdlib_module_names) - set(PACKAGES)
