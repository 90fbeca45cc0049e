"""Taking care of experiments: which there are, and how one is copied, renamed and deleted. Links are never followed."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from golflab.model.record import look_through
from golflab.model.system.files import write_atomic
from golflab.search.engine.budget import UNBOUNDED
from golflab.search.experiment.checks import RESERVED, check_name
from golflab.search.experiment.experiment_file import locate, read_experiment
from golflab.search.ledger.drivers import Presence
from golflab.search.ledger.storage import JOURNAL

# What golflab keeps in an experiment's folder. Anything else in it is the user's.
OURS = ("experiment.json", "plan.json", "drivers", "drivers.lock", "trials", "shorter", "tensorboard", "report.html")
DRIVING = (
    "drivers",
    "drivers.lock",
    f"{JOURNAL}.lock",
    "running.json",
)  # of the drivers at work, and no part of what a copy takes


@dataclass
class Listed:
    """An experiment in a list.

    Attributes:
        name: of its folder; one that lies in another's folder has that one's name before it.
        state: running, interrupted, finished, out of budget; or damaged, where its file cannot be read.
        done: trials that have ended: complete, pruned or failed.
        trials: wanted; None where a budget alone bounds them.
        best: bits per byte of the best record that is complete and fits.
        updated: when it was last written to, in seconds since 1970.
        age: seconds since then.
        damaged: records that cannot be read.
        reason: why the experiment is damaged; else empty.
        nested: experiments in its folder.
    """

    name: str
    state: str
    done: int = 0
    trials: int | None = None
    best: float | None = None
    updated: float = 0.0
    age: float = 0.0
    damaged: int = 0
    reason: str = ""
    nested: list[Listed] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """What `golflab list --json` prints of it."""
        return asdict(self)


def listed(runs: Path) -> list[Listed]:
    """The experiments of a folder, in name order.

    Raises:
        ValueError: there is no such folder.
    """
    if not runs.is_dir():
        raise ValueError(f"There is no folder {runs}. Name the folder of experiments with --runs.")
    return [_listed(folder) for folder in _experiments(runs)]


def _experiments(folder: Path) -> list[Path]:
    """Folders right below that are experiments, in name order."""
    here = (p for p in sorted(folder.iterdir()) if p.is_dir() and not p.is_symlink() and not p.name.startswith("."))
    return [p for p in here if os.path.lexists(p / "experiment.json") and p.name.lower() not in RESERVED]


def _listed(folder: Path, within: str = "") -> Listed:
    name = within + folder.name
    nested = [_listed(below, f"{name}/") for below in _experiments(folder)]
    found = look_through(folder / "trials")
    fitting = [record.bpb for _, record in found.records if record.fits and record.bpb is not None]
    out = Listed(name, "damaged", len(found.records), best=min(fitting, default=None), nested=nested)
    out.damaged = len(found.damaged)
    try:
        told = read_experiment(folder)
    except ValueError as error:
        out.reason, out.updated = str(error), (folder / "experiment.json").lstat().st_mtime
    else:
        out.state = "running" if Presence.any_alive(folder) else {"running": "interrupted"}.get(told["state"], told["state"])
        wanted = told["options"].get("trials")
        out.trials = wanted if type(wanted) is int and wanted < UNBOUNDED else None
        out.updated = float(told.get("updated", 0.0))
    out.age = max(0.0, time.time() - out.updated)
    return out


def existing(name: str, runs: Path) -> Path:
    """The folder of an experiment by its name in ``runs`` or its path, even where its file is damaged.

    Raises:
        ValueError: there is none.
    """
    place = Path(os.path.expanduser(name)) if os.sep in name else runs / name
    if place.is_symlink():
        raise ValueError(f"{place} is a link, and links are not followed here. Name the folder it leads to: {place.resolve()}.")
    folder = locate(name, runs)
    if folder.name.lower() in RESERVED and folder.is_dir() and not os.path.lexists(folder / "experiment.json"):
        raise ValueError(f"{folder.name} is no experiment: it holds {RESERVED[folder.name.lower()]}.")
    if not os.path.lexists(folder / "experiment.json"):
        known = [p.name for p in _experiments(folder.parent)] if folder.parent.is_dir() else []
        near = difflib.get_close_matches(folder.name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"There is no experiment called {folder.name!r} in {folder.parent}.{hint} There are: {', '.join(known) or 'none'}."
        )
    return folder


def _free(name: str, runs: Path) -> Path:
    """Where an experiment of a new name would lie.

    Raises:
        ValueError: there can be none, or something is there already.
    """
    check_name(name)
    if os.path.lexists(runs / name):
        raise ValueError(f"There is a {name!r} in {runs} already; choose another name.")
    return runs / name


def _idle(folder: Path, doing: str) -> None:
    """Raise a ValueError where a driver is at work in an experiment, or in one within it."""
    for here in (folder, *_experiments(folder)):
        if Presence.any_alive(here):
            raise ValueError(f"{here.name} is running; stop it (Ctrl-C where it runs) before {doing}.")


# ---------------------------------------------------------------------- copy


@dataclass
class Copied:
    """A copy: where it is, what it holds, and what was left out."""

    folder: Path
    files: int = 0
    bytes: int = 0
    left: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def copy(name: str, new: str, runs: Path) -> Copied:
    """Copy an experiment under another name: one of its own, with the study and all records, and nothing of the stage cache.

    It appears whole or not at all. Links, pipes and devices are left out.

    Raises:
        ValueError: there is no such experiment, its file is damaged, or the new name cannot be had.
    """
    folder = existing(name, runs)
    target = _free(new, folder.parent)
    told = read_experiment(folder)
    temporary = target.with_name(f".{new}.{uuid.uuid4().hex}.tmp")
    done = Copied(target)
    try:
        temporary.mkdir()
        if (folder / JOURNAL).is_file():  # first: what it tells later than the records is never told too early
            _copy_file(folder / JOURNAL, temporary / JOURNAL, done)
        for path in _files(folder, done.left, folder):
            _copy_file(path, temporary / path.relative_to(folder), done)
        for here in (temporary, *_experiments(temporary)):
            _renew(here, target / here.relative_to(temporary))
        os.rename(temporary, target)
    except OSError as error:
        raise ValueError(
            f"{folder.name} could not be copied: {error.strerror} ({error.filename}). Nothing is left of it."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if told["options"].get("storage"):
        done.notes.append(f"Its study is in a database: `golflab resume {new}` gives the copy one of its own there.")
    if Presence.any_alive(folder):
        done.notes.append(f"{folder.name} is running: the copy holds what had ended, and would run the rest again.")
    return done


def _copy_file(path: Path, target: Path, done: Copied) -> None:
    with contextlib.suppress(FileNotFoundError):  # a run has just removed it
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
        done.files, done.bytes = done.files + 1, done.bytes + target.lstat().st_size


def _files(folder: Path, left: list[str], root: Path) -> Iterator[Path]:
    """The ordinary files of an experiment, but for its drivers', its journal and what is being written just now."""
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        path = Path(entry.path)
        mode = entry.stat(follow_symlinks=False).st_mode
        if entry.name in DRIVING or entry.name.endswith(".tmp") or path == root / JOURNAL:
            continue
        if stat.S_ISDIR(mode):
            yield from _files(path, left, root)
        elif stat.S_ISREG(mode):
            yield path
        else:
            left.append(str(path.relative_to(root)))


def _renew(folder: Path, place: Path) -> None:
    """Make a copied folder an experiment of its own: an id of its own, at its own place."""
    with contextlib.suppress(ValueError):  # a damaged one stays as it was
        told = read_experiment(folder) | {"name": place.name}
        if "id" in told and not told["options"].get("storage"):  # in a database, a copy is known by the id it shares
            told |= {"id": uuid.uuid4().hex, "place": str(place)}
        write_atomic(folder / "experiment.json", json.dumps(told, indent=1).encode())


# ---------------------------------------------------------------------- rename, delete


def rename(name: str, new: str, runs: Path) -> Path:
    """Give an experiment another name; return its folder.

    Raises:
        ValueError: there is no such experiment, it runs, or the new name cannot be had.
    """
    folder = existing(name, runs)
    target = _free(new, folder.parent)
    _idle(folder, "it is renamed")
    try:
        os.rename(folder, target)
    except OSError as error:
        raise ValueError(f"{folder.name} cannot be renamed: {error.strerror}.") from None
    return target


@dataclass
class Doomed:
    """What would go with an experiment.

    Attributes:
        folder: of the experiment.
        trials: with a record.
        files: that would go.
        bytes: they hold.
        nested: experiments within it that would go, too.
        theirs: what golflab did not put there, and what stays.
    """

    folder: Path
    trials: int = 0
    files: int = 0
    bytes: int = 0
    nested: list[str] = field(default_factory=list)
    theirs: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """The same in words."""
        what = f"{self.trials} records of trials, {self.files:,} files, {self.bytes / 1e6:,.1f} MB"
        out = [f"{self.folder}: {what}. The stage cache is not touched."]
        if self.nested:
            out.append(f"With it go: {', '.join(self.nested)}.")
        if self.theirs:
            out.append(f"What golflab did not put there stays: {', '.join(self.theirs)}.")
        return out


def doomed(name: str, runs: Path) -> Doomed:
    """What would go if an experiment was deleted.

    Raises:
        ValueError: there is no such experiment, or it runs.
    """
    folder = existing(name, runs)
    _idle(folder, "it is deleted")
    out = Doomed(folder)
    out.nested = [p.name for p in _experiments(folder)]
    for entry in sorted(folder.iterdir()):
        if not _ours(entry.name, out.nested):
            out.theirs.append(entry.name)
            continue
        for path in _everything(entry):
            out.files, out.bytes = out.files + 1, out.bytes + path.lstat().st_size
            out.trials += path.name == "record.json" and entry.name == "trials"
    return out


def _ours(name: str, nested: list[str]) -> bool:
    unfinished = name.startswith(".") and name.endswith(".tmp")
    return name in OURS or name in nested or name.startswith((JOURNAL, f".{JOURNAL}", ".journal.")) or unfinished


def _everything(path: Path) -> Iterator[Path]:
    """Files and links, not what links lead to."""
    if path.is_dir() and not path.is_symlink():
        for below in sorted(path.iterdir()):
            yield from _everything(below)
    else:
        yield path


def delete(what: Doomed) -> None:
    """Delete an experiment; its folder stays where the user has put something into it.

    Raises:
        ValueError: something cannot be removed; the experiment is named so in what is left.
    """
    _idle(what.folder, "it is deleted")
    # Out of the way first: what is half deleted is no experiment any more.
    leaving = what.folder.with_name(f".{what.folder.name}.{uuid.uuid4().hex}.deleted")
    os.rename(what.folder, leaving)
    try:
        for name in what.theirs:
            what.folder.mkdir(exist_ok=True)
            os.rename(leaving / name, what.folder / name)
        shutil.rmtree(leaving)
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be removed: {error.strerror}. What is left lies in {leaving}.") from None
