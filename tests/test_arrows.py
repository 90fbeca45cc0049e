"""Which room may import which: the table below is the whole rule, and the sources are read to see whether it is kept."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WINGS = ("model", "spaces", "search", "analysis")
LIGHT = {"torch", "numpy", "sentencepiece", "zstandard", "safetensors"}
# A room is a folder; of the files at the top of `model` each is a room of its own. What is imported for type checkers alone
# is not counted. `search/cli` alone may import everything.
ARROWS = {
    "analysis.inference": "",
    "analysis.ladder": "",
    "model.isolation": "",
    "model.shape": "",
    "model.slots": "",
    "model.system": "",
    "model.technique": "model.shape model.slots model.system",
    "model.recipe": "model.shape model.slots model.system model.technique",
    "model.data": "model.shape model.system model.recipe",
    "model.network": "model.recipe",
    "model.schema": "model.recipe",
    "spaces": "model.shape model.slots model.system model.technique model.recipe model.network",
    "model.compression": "model.shape model.technique model.recipe model.data model.network",
    "model.evaluation": "model.system model.recipe model.data model.network",
    "model.record": "model.system model.schema",
    "analysis": "model.record",
    "model.training": (
        "model.shape model.system model.technique model.recipe model.data model.network model.compression model.evaluation"
    ),
    "search.sampler": "model.recipe model.record",
    "analysis.effects": "analysis.inference model.system analysis",
    "model.submission": (
        "model.slots model.system model.recipe model.data model.network model.compression model.evaluation model.training"
    ),
    "model.techniques": (
        "model.shape model.technique model.recipe model.data model.network model.compression model.evaluation model.training"
    ),
    "analysis.evidence": "analysis.inference",
    "analysis.comparison": "analysis.inference model.system model.record analysis analysis.effects",
    "model.stages": "model.shape model.slots model.system model.technique model.recipe model.training model.submission",
    "model.variants": (
        "model.slots model.technique model.recipe model.data model.network model.compression model.evaluation model.submission"
    ),
    "analysis.report": (
        "analysis.inference analysis.ladder model.system model.record analysis analysis.effects analysis.evidence "
        "analysis.comparison"
    ),
    "model.ways": (
        "model.slots model.technique model.recipe model.data model.network model.compression model.training "
        "model.submission model.variants"
    ),
    "model.job": (
        "model.system model.recipe model.data model.network model.schema model.compression model.evaluation "
        "model.record model.training model.submission model.stages model.ways"
    ),
    "search.ledger": (
        "model.slots model.system model.technique model.recipe model.schema spaces model.compression "
        "model.record search.sampler model.submission model.stages"
    ),
    "model.run": (
        "model.system model.recipe model.data model.network model.compression model.record model.training "
        "model.submission model.job model.ways"
    ),
    "search.engine": "model.system model.recipe model.data model.record search.sampler model.ways search.ledger",
    "model.audit": (
        "model.isolation model.shape model.system model.recipe model.data model.network model.compression "
        "model.evaluation model.submission model.run"
    ),
    "search.experiment": (
        "model.shape model.system model.recipe model.data spaces model.record search.sampler model.ways "
        "search.ledger search.engine"
    ),
    "search.terminal": (
        "model.system model.recipe model.data model.schema spaces model.record search.sampler search.ledger search.engine"
    ),
    "search.design": (
        "model.slots model.system model.technique model.recipe model.data spaces model.compression model.training model.ways "
        "search.ledger model.record model.run search.engine search.experiment"
    ),
    "search.upkeep": ("model.system model.recipe model.record search.ledger search.engine search.experiment search.terminal"),
}


def room_of(module: str) -> str:
    """``golflab.model.data.corpus`` -> ``model.data``; the techniques, in their six folders, are one room."""
    parts = module.split(".")[1:]
    if parts[:2] == ["model", "techniques"]:
        return "model.techniques"
    return ".".join(parts[:2]) if len(parts) > 2 or parts[0] == "model" else parts[0]


def modules() -> dict[str, Path]:
    """Dotted name -> file of everything in the four packages."""
    files = [path for wing in WINGS for path in sorted((ROOT / wing).rglob("*.py")) if path.stem != "__init__"]
    return {".".join(("golflab", *path.relative_to(ROOT).with_suffix("").parts)): path for path in files}


def imports_of(path: Path, known: dict[str, Path] | None = None) -> set[str]:
    """Dotted names of everything a file imports, wherever in it, but for type checkers alone."""
    tree, found = ast.parse(path.read_text()), set[str]()
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    unseen = {id(inner) for node in typing for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in (known or {}) else str(node.module) for name in names} if known else names
    return found


def graph() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports."""
    known = modules()
    return {name: imports_of(path, known) & set(known) for name, path in known.items()}


def test_rooms_import_what_the_table_says():
    wrong = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in sorted(others)
        if room_of(name) != "search.cli" and room_of(other) not in (room_of(name), *ARROWS[room_of(name)].split())
    ]
    assert not wrong, "\n".join(wrong)


def test_the_table_has_no_circle_and_nothing_that_is_not_needed():
    assert not circle({room: set(others.split()) for room, others in ARROWS.items()})
    needed = {(room_of(name), room_of(other)) for name, others in graph().items() for other in others}
    assert not [(room, other) for room, others in ARROWS.items() for other in others.split() if (room, other) not in needed]


def test_no_module_imports_itself_by_way_of_others():
    assert not circle(graph())


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """What is left when everything that imports nothing left is taken away, again and again."""
    left = {name: set(others) - {name} for name, others in arrows.items()}
    while free := [name for name, others in left.items() if not others & set(left)]:
        for name in free:
            del left[name]
    return sorted(left)


def test_every_room_says_what_it_is():
    rooms = {path.parent for path in modules().values()} | {ROOT / wing for wing in WINGS}
    for room in rooms:
        told = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
        if room.parent.name != "techniques":
            assert told, f"{room}/__init__.py has no docstring"
            assert len(told.splitlines()) <= 10


def test_model_record_needs_no_torch():
    assert not [n for n in imports_of(ROOT / "model" / "record.py") if n.partition(".")[0] == "torch"]


def test_a_bare_machine_can_run_a_trial():
    """``import golflab.model.run`` asks for torch, numpy, sentencepiece, zstandard and safetensors alone."""
    assert not first_hand(imported_by("import golflab.model.run")) - LIGHT


def test_no_file_is_named_like_a_module_of_the_standard_library():
    assert not [path for path in modules().values() if path.stem in sys.stdlib_module_names]


def imported_by(statement: str) -> set[str]:
    """Modules loaded after a statement in a fresh process, and by whom they could have been asked for."""
    script = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def first_hand(loaded: set[str]) -> set[str]:
    """Foreign top-level packages that a loaded file of ours names in a statement at its top."""
    asked, known = set[str](), modules()
    for name in loaded & set(known):
        for node in ast.parse(known[name].read_text()).body:
            if isinstance(node, ast.Import):
                asked |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                asked.add(str(node.module).partition(".")[0])
    return asked - set(sys.stdlib_module_names) - {"golflab"}


@pytest.mark.parametrize("name", sorted(ARROWS))
def test_rooms_of_the_table_exist(name):
    assert (ROOT / name.replace(".", "/")).is_dir() or (ROOT / f"{name.replace('.', '/')}.py").is_file()
