"""Import closures: which code a module can run, found by reading sources, and a hash of that code.

The keys of the stage cache and the exported script both follow from closures, so that neither needs a list of modules.
A closure holds every module of this package that is imported anywhere in a source, inside functions too, and so on from
there. It may contain more than is ever run, but never less. The exception are modules whose names are made at run time:
techniques are found by name (`golflab.model.technique.find`), so callers must name their modules.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import sys
import time
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import golflab

PACKAGE = "golflab.model."
ROOT = Path(__file__).resolve().parents[2]
Read = Callable[[str], bytes]  # dotted name of a module -> its source

OWN = (Path(golflab.__file__).resolve(), ROOT / "model")  # what a process that imports this package reads

_BEGAN = time.time()
_OWN = uuid.uuid4().bytes  # this process's
_EDITED: set[str] = set()


def path_of(name: str) -> Path:
    """The file of a module or package of this project."""
    path = ROOT.joinpath(*name.split(".")[1:])  # below `golflab`, whose folders lie here in a checkout and in a wheel
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def source(name: str) -> bytes:
    """The source of a module, as it was when this process first read it."""
    return path_of(name).read_bytes()


def closure(names: Collection[str], without: Collection[str] = (), read: Read = source) -> frozenset[str]:
    """The modules ``names`` and every module of this package that they import, directly or not, packages included.

    Args:
        names: dotted names to begin with.
        without: modules that are left out, and what only they import.
        read: gives a module's source.
    """
    found, open_ends = set[str](), set(names)
    while open_ends:
        name = open_ends.pop()
        found.add(name)
        open_ends |= _imported(name, read(name)).own - found - set(without)
    return frozenset(found)


def code_hash(names: Collection[str], read: Read = source) -> str:
    """Hex digits that change with any source in the closure of ``names``, and with the version of any library it imports.

    A file that was written after this process began may differ from the code that runs, because the module may have been
    imported before. Its hash is then this process's own, so that no result that depends on it is shared.
    """
    return _code_hash(frozenset(names), read)


@functools.lru_cache(maxsize=4096)
def _code_hash(names: frozenset[str], read: Read) -> str:
    content, libraries = hashlib.sha256(), set[str]()
    for name in sorted(closure(names, read=read)):
        text = read(name)
        content.update(name.encode() + hashlib.sha256(text).digest() + (_OWN if read is source and _is_newer(name) else b""))
        libraries |= _imported(name, text).foreign
    content.update(" ".join(f"{name}={_version(name)}" for name in sorted(libraries)).encode())
    return content.hexdigest()


def edited() -> list[str]:
    """Modules hashed so far whose file was written while this process ran."""
    return sorted(_EDITED)


@functools.cache
def _is_newer(name: str) -> bool:
    written = path_of(name).stat().st_mtime
    if _BEGAN < written <= time.time():  # a time in the future means a wrong clock, not an edit
        _EDITED.add(name)
    return name in _EDITED


class _Imports(NamedTuple):
    """What a source imports: modules of this package, and libraries."""

    own: frozenset[str]
    foreign: frozenset[str]


@functools.lru_cache(maxsize=4096)
def _imported(name: str, text: bytes) -> _Imports:
    names = {name.rpartition(".")[0]} - {""}  # a module's package is imported before it
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(name, node)
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}  # a name may be a module of its own
    tops = frozenset(n.partition(".")[0] for n in names)
    own = frozenset(n for n in names if f"{n}.".startswith(PACKAGE) and path_of(n).is_file())
    return _Imports(own, tops - {PACKAGE.partition(".")[0]} - sys.stdlib_module_names)


def _absolute(name: str, node: ast.ImportFrom) -> str:
    """The module a ``from … import`` in module ``name`` means, with its leading dots resolved."""
    if not node.level:
        return node.module or ""
    parts = [*name.split("."), *(["__init__"] if path_of(name).name == "__init__.py" else [])]
    return ".".join([*parts[: -node.level], *([node.module] if node.module else [])])


@functools.cache
def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""
