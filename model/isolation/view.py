"""What an evaluator's fresh process may see: Python, common libraries, and the files that were declared.

A file of a library may be seen if its installation record lists it with its present size. Compiled Python files may not: their
content cannot be checked, and Python makes them again from the sources. All other files must be declared.
"""

from __future__ import annotations

import csv
import os
import re
import site
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

# What entries of Parameter Golf import; whatever these need is shown, too. No corpus may be among them.
LIBRARIES = (
    *("torch", "numpy", "scipy", "pandas", "pyarrow", "sentencepiece", "safetensors", "zstandard", "brotli", "orjson"),
    *("threadpoolctl", "tiktoken", "einops", "tqdm", "packaging", "numba", "flash-attn"),
)
UNWANTED = {"test", "idlelib", "turtledemo", "tkinter", "_tkinter", "ensurepip", "venv", "lib2to3"}  # data, or a screen
CODE = re.compile(r"\.py$|\.so(\.[\d.]+)?$")
LOADED_LATE = ("libgcc_s.so.1", "libnss_files.so.2")  # by the C library itself, when it first needs them
DEVICES = ("null", "zero", "full", "random", "urandom")


@dataclass(frozen=True)
class View:
    """Absolute paths a process is shown.

    Attributes:
        shown: files and folders.
        hidden: files and folders inside the shown ones that are not.
    """

    shown: tuple[str, ...]
    hidden: tuple[str, ...] = ()
    _shown: frozenset[str] = field(init=False, repr=False)
    _hidden: frozenset[str] = field(init=False, repr=False)
    _above: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        real = frozenset(map(os.path.realpath, self.shown))
        object.__setattr__(self, "_shown", real)
        object.__setattr__(self, "_hidden", frozenset(map(os.path.realpath, self.hidden)))
        object.__setattr__(self, "_above", frozenset(above for path in real for above in _chain(path)))

    def allows(self, path: str) -> bool:
        """Whether a real path is shown, or leads to what is shown."""
        chain = list(_chain(path))
        return path in self._above or (not self._hidden.intersection(chain) and bool(self._shown.intersection(chain)))


def _chain(path: str) -> Iterator[str]:
    """A path and the folders it is in."""
    yield path
    while path != (path := os.path.dirname(path)):
        yield path


def view(counted: Iterable[Path], free: Iterable[Path] = (), devices: str = "/dev") -> View:
    """What the process of a package sees.

    Args:
        counted: declared files, and folders of which only the Python files are shown: no other file in them is counted.
        free: declared files, and folders of which everything is shown.
        devices: where the machine's devices are.
    """
    declared = {os.path.abspath(file) for path in counted for file in (path.rglob("*.py") if path.is_dir() else [path])}
    declared |= {os.path.abspath(path) for path in free}
    declared |= set(map(os.path.realpath, declared))
    shown, hidden = _python()
    for found in _libraries(frozenset(declared)):
        shown, hidden = shown | found[0], hidden | found[1]
    binaries = [path for path in _files(shown, hidden) if ".so" in os.path.basename(path)]
    gpu = [path for path in (os.path.join(devices, name) for name in sorted(os.listdir(devices))) if _of_gpu(path)]
    shown |= _shared([*binaries, interpreter()], bool(gpu))
    shown |= {os.path.join(devices, name) for name in DEVICES} | set(gpu) | {interpreter()}
    shown |= {"/etc/ld.so.cache", "/sys/devices/system/cpu", "/sys/devices/system/node"}
    settings = os.path.join(os.path.dirname(os.path.dirname(interpreter())), "pyvenv.cfg")
    exist = sorted(path for path in shown | declared | {settings} if os.path.exists(path))
    return View(tuple(exist), tuple(sorted(hidden - declared)))


def interpreter() -> str:
    """The Python itself, without a virtual environment around it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _of_gpu(path: str) -> bool:
    """Whether a device belongs to an NVIDIA card."""
    return os.path.basename(path).startswith("nvidia")


Found = tuple[set[str], set[str]]  # shown, and hidden within that


def _python() -> Found:
    """The standard library: its modules by their names, and of those the code."""
    shown: set[str] = set()
    hidden: set[str] = set()
    home = os.path.dirname(os.path.realpath(os.__file__))
    for folder in {home, os.path.join(home, "lib-dynload"), os.path.realpath(sysconfig.get_config_var("DESTSHARED") or home)}:
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            module, path = name.split(".")[0], os.path.join(folder, name)
            if module in UNWANTED or not (module in sys.stdlib_module_names or module.startswith("_sysconfigdata")):
                continue
            if os.path.isdir(path):
                within = _within(path, lambda file: bool(CODE.search(file.name)))
                shown, hidden = shown | {path} | within[0], hidden | within[1]
            elif CODE.search(name):
                shown.add(path)
    return shown, hidden


def _places() -> list[str]:
    """Folders where libraries are installed; not all of ``sys.path``, which an evaluator may have changed."""
    mine = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    listed = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    paths = sysconfig.get_paths()
    return list(dict.fromkeys([paths["purelib"], paths["platlib"], *site.getsitepackages(), *mine, *listed]))


def _libraries(declared: frozenset[str]) -> Iterator[Found]:
    """The known libraries and what they need, each folder less what no installation record lists."""
    listed: dict[str, dict[str, int]] = {}
    todo, done = list(LIBRARIES), set()
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        library = None if name in done else next(iter(metadata.distributions(name=name, path=_places())), None)
        done.add(name)
        if library is not None:
            needs = (re.match(r"[\w.-]+", need) for need in library.requires or () if "extra ==" not in need)
            todo += [need[0] for need in needs if need]
            listed.setdefault(os.path.realpath(str(library.locate_file(""))), {}).update(_record(library))
    for place, sizes in listed.items():
        for top in sorted({path.split("/")[0] for path in sizes}):
            path = os.path.join(place, top)
            if os.path.isdir(path):
                start = len(place) + 1

                def kept(file: os.DirEntry[str], start: int = start, sizes: dict[str, int] = sizes) -> bool:
                    size = sizes.get(file.path[start:])
                    return file.path in declared or (size is not None and size in (-1, file.stat().st_size))

                within = _within(path, kept)
                yield {path} | within[0], within[1]
            elif os.path.isfile(path) and sizes.get(top) in (-1, os.path.getsize(path)):
                yield {path}, set()


def _record(library: metadata.Distribution) -> dict[str, int]:
    """Sizes of a library's files, by path; -1 for any size, in code that a system's packages installed without a record."""
    if text := library.read_text("RECORD"):
        rows = (
            row
            for row in csv.reader(text.splitlines())
            if len(row) == 3 and row[2].isdigit() and not row[0].startswith(("/", ".."))
        )
        return {path: int(size) for path, _, size in rows if not path.endswith(".pyc")}
    place = str(library.locate_file(""))
    names = (library.read_text("top_level.txt") or library.metadata["Name"] or "").split()
    paths = [os.path.join(place, name) for name in names] + [os.path.join(place, f"{name}.py") for name in names]
    return {path[len(place.rstrip("/")) + 1 :]: -1 for path in _files(filter(os.path.exists, paths), ()) if CODE.search(path)}


def _within(folder: str, kept: Callable[[os.DirEntry[str]], bool]) -> Found:
    """What symbolic links in a shown folder lead to, and what of the folder has to be hidden."""
    shown: set[str] = set()
    hidden: set[str] = set()
    _cover(folder, kept, shown, hidden)
    return shown, hidden


def _cover(folder: str, kept: Callable[[os.DirEntry[str]], bool], shown: set[str], hidden: set[str]) -> bool:
    """Fill the two sets of `_within`; whether anything in the folder is kept."""
    some = False
    inside: set[str] = set()
    with suppress(PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            wanted = _cover(entry.path, kept, shown, inside) if entry.is_dir() else entry.is_file() and kept(entry)
            some = some or wanted
            if wanted and entry.is_symlink():
                shown.add(os.path.realpath(entry.path))
            elif not wanted and not entry.is_symlink():
                inside.add(entry.path)
    hidden |= inside if some else {folder}
    return some


def _files(paths: Iterable[str], hidden: Collection[str]) -> Iterator[str]:
    """Files among the paths and within the folders among them, less what is hidden."""
    for path in paths:
        if path in hidden:
            continue
        if os.path.isdir(path):
            with suppress(PermissionError), os.scandir(path) as entries:
                yield from _files([entry.path for entry in entries], hidden)
        else:
            yield path


# ---------------------------------------------------------------------- shared libraries of the system


def _shared(binaries: Iterable[str], gpu: bool) -> set[str]:
    """Shared libraries of the system that binaries ask for, and those that these ask for, and the loader."""
    have = _system_libraries()
    found: set[str] = set()
    todo = [name for name in have if gpu and name.startswith(("libcuda", "libnv", "libnvidia"))] + list(LOADED_LATE)
    for path in binaries:
        todo += _needs(path)
    while todo:
        name = todo.pop()
        for path in {name} if name.startswith("/") else have.get(name, set()) - found:
            if path not in found and os.path.exists(path):
                found.add(path)
                todo += _needs(path)
    return found


def _system_libraries() -> dict[str, set[str]]:
    """Paths of the shared libraries that the loader may find, by name."""
    listing = ""
    for tool in ("/sbin/ldconfig", "/usr/sbin/ldconfig"):
        with suppress(OSError, subprocess.SubprocessError):
            listing = listing or subprocess.run([tool, "-p"], capture_output=True, text=True, timeout=60, check=False).stdout
    pairs = [(line.split()[0], line.split(" => ")[1].strip()) for line in listing.splitlines() if " => " in line]
    folders = [*os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep), os.path.join(sys.base_prefix, "lib")]
    for folder in filter(os.path.isdir, folders):
        pairs += [(name, os.path.join(folder, name)) for name in os.listdir(folder) if ".so" in name]
    machine = _machine(interpreter())
    found: dict[str, set[str]] = {}
    for name, path in pairs:
        if _machine(path) == machine:
            found.setdefault(name, set()).add(path)
    return found


@cache
def _machine(path: str) -> bytes:
    """The kind of processor and word size a binary is for; nothing for other files."""
    with suppress(OSError), open(path, "rb") as file:
        head = file.read(20)
        return head[4:6] + head[18:20] if head.startswith(b"\x7fELF") else b""
    return b""


@cache
def _needs(path: str) -> list[str]:
    """Names of the shared libraries that a 64-bit ELF file asks for, and the path of its loader."""
    with suppress(OSError, struct.error, StopIteration, ValueError), open(path, "rb") as file:
        head = file.read(64)
        if not head.startswith(b"\x7fELF\x02\x01"):
            return []
        (table,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        rows = struct.iter_unpack("<IIQQQQQQ", read(table, size * count))
        parts = [(kind, offset, address, length) for kind, _, offset, address, _, length, *_ in rows]
        loader = [read(offset, length).rstrip(b"\0").decode() for kind, offset, _, length in parts if kind == 3]
        offset, length = next((offset, length) for kind, offset, _, length in parts if kind == 2)
        entries = list(struct.iter_unpack("<QQ", read(offset, length)))
        strings, length = (next(value for tag, value in entries if tag == wanted) for wanted in (5, 10))
        base = next(strings - a + o for kind, o, a, n in parts if kind == 1 and a <= strings < a + n)
        text = read(base, length)
        return loader + [text[value : text.index(b"\0", value)].decode() for tag, value in entries if tag == 1]
    return []
