"""An experiment is copied, renamed or deleted. Links are never followed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from golflab.model.system.files import write_atomic
from golflab.model.system.wording import number_of
from golflab.search.experiment.checks import check_name
from golflab.search.experiment.experiment_file import experiments_in, read_experiment
from golflab.search.ledger.drivers import Presence
from golflab.search.ledger.storage import JOURNAL
from golflab.search.upkeep.listing import existing

# What golflab keeps in an experiment's folder. Anything else in it is the user's.
OURS = ("experiment.json", "plan.json", "drivers", "drivers.lock", "trials", "shorter", "tensorboard", "report.html")
DRIVING = (
    "drivers",
    "drivers.lock",
    f"{JOURNAL}.lock",
    "running.json",
)  # of the drivers at work, and no part of what a copy takes


def _free(name: str, runs: Path) -> Path:
    """The folder for an experiment with a new name.

    Raises:
        ValueError: the name is not allowed, or something with this name exists.
    """
    check_name(name)
    if os.path.lexists(runs / name):
        raise ValueError(f"There is a {name!r} in {runs} already; choose another name.")
    return runs / name


def _check_idle(folder: Path, doing: str) -> None:
    """Raise a ValueError if a driver of an experiment, or of one in its folder, is alive."""
    for here in (folder, *experiments_in(folder)):
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

    The copy appears whole or not at all. Links, pipes and devices are left out.

    Raises:
        ValueError: there is no such experiment, its file is damaged, or the new name cannot be had.
    """
    folder = existing(name, runs)
    target = _free(new, folder.parent)
    saved = read_experiment(folder)
    temporary = target.with_name(f".{new}.{uuid.uuid4().hex}.tmp")
    done = Copied(target)
    try:
        temporary.mkdir()
        if (folder / JOURNAL).is_file():  # first, so that the copied journal never knows more than the copied records
            _copy_file(folder / JOURNAL, temporary / JOURNAL, done)
        for path in _files(folder, done.left, folder):
            _copy_file(path, temporary / path.relative_to(folder), done)
        for here in (temporary, *experiments_in(temporary)):
            _renew(here, target / here.relative_to(temporary))
        os.rename(temporary, target)
    except OSError as error:
        raise ValueError(
            f"{folder.name} could not be copied: {error.strerror} ({error.filename}). Nothing is left of it."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if saved["options"].get("storage"):
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
    """The ordinary files of an experiment, without those of its drivers, its journal and unfinished files."""
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
    """Give a copied experiment its own id and path."""
    with contextlib.suppress(ValueError):  # a damaged file stays as it was
        saved = read_experiment(folder) | {"name": place.name}
        if "id" in saved and not saved["options"].get(
            "storage"
        ):  # in a database, a copy is recognised by the id that both have
            saved |= {"id": uuid.uuid4().hex, "place": str(place)}
        write_atomic(folder / "experiment.json", json.dumps(saved, indent=1).encode())


# ---------------------------------------------------------------------- rename, delete


def rename(name: str, new: str, runs: Path) -> Path:
    """Give an experiment another name; return its folder.

    Raises:
        ValueError: there is no such experiment, it runs, or the new name cannot be had.
    """
    folder = existing(name, runs)
    target = _free(new, folder.parent)
    _check_idle(folder, "it is renamed")
    try:
        os.rename(folder, target)
    except OSError as error:
        raise ValueError(f"{folder.name} cannot be renamed: {error.strerror}.") from None
    return target


@dataclass
class Deletion:
    """What is deleted with an experiment.

    Attributes:
        folder: of the experiment.
        trials: that have a record.
        files: that are deleted.
        bytes: of these files.
        nested: experiments in its folder, which are deleted with it.
        theirs: names of files that golflab did not write; they stay.
    """

    folder: Path
    trials: int = 0
    files: int = 0
    bytes: int = 0
    nested: list[str] = field(default_factory=list)
    theirs: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """Sentences for the user."""
        what = f"{number_of(self.trials, 'record')} of trials, {number_of(self.files, 'file')}, {self.bytes / 1e6:,.1f} MB"
        out = [f"{self.folder}: {what}. The stage cache is not touched."]
        if self.nested:
            out.append(f"These experiments in it are deleted, too: {', '.join(self.nested)}.")
        if self.theirs:
            out.append(f"Files that golflab did not write stay: {', '.join(self.theirs)}.")
        return out


def deletion(name: str, runs: Path) -> Deletion:
    """Find what would be deleted with an experiment.

    Raises:
        ValueError: there is no such experiment, or it runs.
    """
    folder = existing(name, runs)
    _check_idle(folder, "it is deleted")
    out = Deletion(folder)
    out.nested = [p.name for p in experiments_in(folder)]
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


def delete(what: Deletion) -> None:
    """Delete an experiment; its folder stays where the user has put something into it.

    Raises:
        ValueError: something cannot be removed; the experiment is named so in what is left.
    """
    _check_idle(what.folder, "it is deleted")
    # Renamed first: a half-deleted folder must not be taken for an experiment.
    leaving = what.folder.with_name(f".{what.folder.name}.{uuid.uuid4().hex}.deleted")
    os.rename(what.folder, leaving)
    try:
        for name in what.theirs:
            what.folder.mkdir(exist_ok=True)
            os.rename(leaving / name, what.folder / name)
        shutil.rmtree(leaving)
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be removed: {error.strerror}. What is left lies in {leaving}.") from None
