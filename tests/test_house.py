"""How large a file, a function and a folder may be, so that each can be read at once. The sources are read; nothing is run."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
WINGS = ("golflab", "model", "search", "spaces", "analysis")
FILE_LINES, FUNCTION_LINES, FOLDER_MODULES = 300, 60, 12
ADVICE = "Cut it where the subject changes, so that each part has a title of its own."


def sources() -> list[Path]:
    """Every Python file of the packages."""
    return [path for wing in WINGS for path in sorted((ROOT / wing).rglob("*.py"))]


def long_files(paths: list[Path]) -> list[str]:
    """Files with more lines than a file may have."""
    lengths = {path: len(path.read_text().splitlines()) for path in paths}
    return [f"{path.relative_to(ROOT)}: {count} lines" for path, count in lengths.items() if count > FILE_LINES]


def long_functions(source: str) -> list[str]:
    """Functions and methods with more lines than a function may have, docstring included, decorators not."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    return [f"{node.name}: {count} lines" for node, count in lengths.items() if count > FUNCTION_LINES]


def full_folders(paths: list[Path]) -> list[str]:
    """Folders that hold more modules than a folder may hold; the techniques may be as many as there are ideas."""
    folders: dict[Path, int] = {}
    for path in paths:
        if path.stem != "__init__" and (ROOT / "model" / "techniques") not in path.parents:
            folders[path.parent] = folders.get(path.parent, 0) + 1
    return [f"{folder.relative_to(ROOT)}: {count} modules" for folder, count in folders.items() if count > FOLDER_MODULES]


def test_no_file_is_too_long():
    found = long_files(sources())
    assert not found, f"more than {FILE_LINES} lines. {ADVICE}\n" + "\n".join(found)


def test_no_function_is_too_long():
    found = [f"{path.relative_to(ROOT)}, {name}" for path in sources() for name in long_functions(path.read_text())]
    assert not found, f"more than {FUNCTION_LINES} lines. {ADVICE}\n" + "\n".join(found)


def test_no_folder_is_too_full():
    found = full_folders(sources())
    assert not found, f"more than {FOLDER_MODULES} modules at one level. {ADVICE}\n" + "\n".join(found)


def test_the_limits_are_where_they_are_said_to_be(monkeypatch, tmp_path):
    """What is just allowed passes, and one more is found."""
    monkeypatch.setattr("tests.test_house.ROOT", tmp_path)
    for count in (FILE_LINES, FILE_LINES + 1):
        (tmp_path / f"lines{count}.py").write_text("x = 1\n" * count)
    assert long_files(sorted(tmp_path.glob("*.py"))) == [f"lines{FILE_LINES + 1}.py: {FILE_LINES + 1} lines"]
    methods = [f"    def {name}(self):\n" + "        x = 1\n" * (count - 1) for name, count in (("fits", 60), ("long", 61))]
    assert long_functions("class C:\n" + "".join(methods)) == ["long: 61 lines"]
    modules = [tmp_path / folder / f"m{n}.py" for folder, count in (("fits", 12), ("full", 13)) for n in range(count)]
    free = [tmp_path / "model" / "techniques" / "train" / f"m{n}.py" for n in range(13)]
    assert full_folders([*modules, *free, tmp_path / "fits" / "__init__.py"]) == ["full: 13 modules"]
