"""Clean: removes files of the stage cache that were not used for a while, and counts them by kind.

Only files with golflab's own names in its own folders are removed. Files that a run needs stay: entries whose lock is held,
checkpoints of trials that have not ended and, while an experiment runs, all files used since it started. Everything that is
removed can be computed again.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from golflab.model.system.wording import number_of
from golflab.search.ledger.drivers import Presence
from golflab.search.terminal.show import table

KEY = "[0-9a-f]{12}"
# Kind -> folders of the cache, and pattern of its file names.
KINDS = {
    "trainings": (("train",), rf"{KEY}\.stage"),
    "artifacts": (("pack",), rf"{KEY}\.stage"),
    "scores": (("evaluate",), rf"{KEY}\.(stage|partial)"),
    "checkpoints": (("train",), rf"{KEY}(-{KEY})?\.checkpoint"),
    "locks and notes": (("train",), rf"{KEY}(\.lock|-{KEY}\.unrecorded)"),
    "unfinished files": (("train", "pack", "evaluate", "data"), r"\..+\.([0-9a-f]{32}|[0-9]+)\.tmp"),
}
UNFINISHED_SECONDS = 3600.0  # a file that is still being written is younger than this
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass
class Kind:
    """The files of one kind, and those of them that were (or would be) removed.

    Attributes:
        name: of the kind.
        files: number of files.
        bytes: of all files.
        oldest: seconds since the last use of the file that was unused for longest.
        kept: files that are old enough, but needed.
        removed: files that were removed.
        freed: bytes of these.
    """

    name: str
    files: int = 0
    bytes: int = 0
    oldest: float = 0.0
    kept: int = 0
    removed: int = 0
    freed: int = 0


def seconds_of(age: str) -> float:
    """Read an age: ``7d``, ``12h``, ``90m``, ``30s``.

    Raises:
        ValueError: the text is no age.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", age.strip())
    if found is None:
        raise ValueError(f"--older-than {age!r} must be a number with its unit, like 7d, 12h, 90m or 30s.")
    return float(found[1]) * UNITS[found[2]]


def clean(runs: Path, older_than: float, dry_run: bool = False) -> list[Kind]:
    """Remove files that were not used for a while from the stage cache of a folder of experiments.

    Args:
        runs: the folder of experiments; the cache is ``cache`` in it.
        older_than: seconds; younger files stay.
        dry_run: remove nothing, only count.

    Raises:
        ValueError: there is no cache.
    """
    cache, now = runs / "cache", time.time()
    if not cache.is_dir():
        raise ValueError(f"{runs} has no stage cache (it would be {cache}); give the folder of experiments with --runs.")
    since, resumable = _began(runs, now), _unended(runs)
    found = []
    for name, (folders, pattern) in KINDS.items():
        kind = Kind(name)
        for path in _files(cache, folders, pattern):
            with contextlib.suppress(FileNotFoundError):  # its run has just removed it
                status = path.stat()
                age = now - status.st_mtime
                kind.files, kind.bytes, kind.oldest = kind.files + 1, kind.bytes + status.st_size, max(kind.oldest, age)
                if age < max(older_than, UNFINISHED_SECONDS if name == "unfinished files" else 0.0):
                    continue
                if status.st_mtime >= since or _recipe_of(path) in resumable or not _removed(path, dry_run):
                    kind.kept += 1
                    continue
                kind.removed, kind.freed = kind.removed + 1, kind.freed + status.st_size
        found.append(kind)
    return found


def _files(cache: Path, folders: tuple[str, ...], pattern: str) -> Iterator[Path]:
    """Golflab's own files: with these names, and no links in their path."""
    for folder in (cache / name for name in folders):
        if folder.is_dir() and not folder.is_symlink():
            named = (path for path in sorted(folder.iterdir()) if re.fullmatch(pattern, path.name))
            yield from (path for path in named if path.is_file() and not path.is_symlink())


def _recipe_of(path: Path) -> str:
    """The recipe whose run a checkpoint belongs to; empty for other files."""
    return path.stem.partition("-")[2] if path.suffix == ".checkpoint" else ""


def _unended(runs: Path) -> set[str]:
    """Recipes of all trials that have started and have no record."""
    trials = (p for kind in ("trials", "shorter") for p in runs.glob(f"*/{kind}/*") if p.is_dir())
    return {p.name for p in trials if not (p / "record.json").exists()}


def _began(runs: Path, now: float) -> float:
    """Start of the oldest running experiment; infinity if none is running."""
    began = float("inf")
    for folder in {p.parent for p in runs.glob("*/drivers")}:
        if Presence.any_alive(folder):
            began = min([began, now, *(p.stat().st_mtime for p in folder.glob("*/*/recipe.json"))])
    return began


def _removed(path: Path, dry_run: bool) -> bool:
    """Remove a file, unless a run holds the lock of its stage; return whether it was (or could be) removed."""
    with contextlib.ExitStack() as stack:
        lock = path.parent / f"{path.name[:12]}.lock"
        if path.suffix in (".stage", ".checkpoint", ".lock") and lock.exists():
            file = stack.enter_context(open(lock, "ab"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        if not dry_run:
            path.unlink(missing_ok=True)
        return True


def report(kinds: list[Kind], dry_run: bool, console: Console) -> None:
    """Print a table by kind and one sentence."""
    heads = ("files", "size", "oldest", "remove", "frees", "needed")
    rows = [
        [
            *(k.name, f"{k.files:,}", _size(k.bytes), _age(k.oldest) if k.files else ""),
            *(f"{k.removed:,}", _size(k.freed), f"{k.kept:,}"),
        ]
        for k in kinds
    ]
    console.print(table("Stage cache", {"": "left"} | dict.fromkeys(heads, "right"), rows))
    removed, freed, kept = (sum(getattr(k, key) for k in kinds) for key in ("removed", "freed", "kept"))
    said = "Would remove" if dry_run else "Removed"
    needed = f" Old files that stay, because runs that have not ended need them: {kept:,}." if kept else ""
    console.print(f"{said} {number_of(removed, 'file')}, {_size(freed)}.{needed}", highlight=False, soft_wrap=True)


def as_json(kinds: list[Kind], dry_run: bool) -> dict[str, object]:
    """What `golflab clean --json` prints."""
    return {"dry_run": dry_run, "freed": sum(k.freed for k in kinds), "kinds": [asdict(k) for k in kinds]}


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _age(seconds: float) -> str:
    unit = next((u for u in ("d", "h", "m") if seconds >= UNITS[u]), "s")
    return f"{seconds / UNITS[unit]:.0f}{unit}"
