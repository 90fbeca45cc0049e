"""The Optuna storage of an experiment: a journal file in its folder, or a database.

The journal is locked with ``flock``. The kernel releases such a lock when the process that holds it dies, so a killed driver
leaves no lock behind. (With Optuna's own locks, the others would wait thirty seconds.)
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from golflab.search.ledger.database import check_address, cleaned, completed, masked, with_driver

JOURNAL = "study.journal"


class KernelLock(JournalFileOpenLock):
    """A journal lock that the kernel releases when the process that holds it dies."""

    def __init__(self, journal: Path) -> None:
        self._journal, self._path = journal, journal.with_name(f"{journal.name}.lock")
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait for the lock."""
        for path in (self._path, self._journal):
            check_plain(path)
        self._file = open(self._path, "ab")  # noqa: SIM115 held until release
        fcntl.flock(self._file, fcntl.LOCK_EX)
        _drop_torn_line(self._journal)  # before anything is appended
        return True

    def release(self) -> None:
        """Release the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None


def open_storage(url: str | None, folder: Path, reading: bool = False) -> BaseStorage:
    """Open the Optuna storage at ``url``, or the experiment's own journal file.

    Args:
        url: of a database, or None.
        folder: of the experiment.
        reading: whether nothing will be written: the journal must then exist, and may belong to another user.

    Raises:
        ValueError: it cannot be opened; the message names the journal and its damaged line, and no password.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url is None:
        return _open_journal(folder, reading)
    check_address(url)
    shown, url = masked(url), completed(url)
    try:
        return optuna.storages.get_storage(with_driver(url))
    except Exception as error:
        how = " PostgreSQL needs: pip install 'golflab[postgresql]'." if isinstance(error, ImportError) else ""
        raise ValueError(f"storage {shown!r} cannot be opened: {cleaned(error, url).strip()}{how}") from None


def _open_journal(folder: Path, reading: bool) -> BaseStorage:
    path = folder / JOURNAL
    if reading:
        check_plain(path)
        if not path.exists():
            raise ValueError(f"{path} is missing; {repair(folder)}")
    else:
        folder.mkdir(parents=True, exist_ok=True)
    lock = KernelLock(path)
    if not reading:
        lock.acquire()
        lock.release()
    try:
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
        _check_ends(path)
        return storage
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except Exception:  # Optuna fails in many ways on a damaged journal
        raise ValueError(f"{_damage(path)}; {repair(folder)}") from None


def repair(folder: Path) -> str:
    """What a user should do about a lost or damaged journal, in words."""
    return f"`golflab repair {folder.name}` rebuilds the study from the records."


def check_journal(folder: Path) -> None:
    """Check that an experiment's journal exists: a new one beside the old records would run all trials again.

    Raises:
        ValueError: it is missing or empty though there are records.
    """
    path = folder / JOURNAL
    check_plain(path)
    if (not path.exists() or not path.stat().st_size) and any(folder.glob("trials/*/record.json")):
        state = "is empty" if path.exists() else "is missing"
        raise ValueError(f"{path} {state} though there are records of its trials; {repair(folder)}")


def study_in(storage: BaseStorage, saved: dict[str, Any], url: str | None, folder: Path) -> str:
    """The name of an experiment's study: in its own journal the only study there is, in a database the name in its file.

    Raises:
        ValueError: there is no such study.
    """
    written = str(saved.get("study") or saved.get("name") or folder.name)
    names = optuna.get_all_study_names(storage)
    if written in names:
        return written
    if url is None and len(names) == 1:
        return names[0]
    where = masked(url) if url else str(folder / JOURNAL)
    raise ValueError(f"{where} holds no study called {written!r}; {repair(folder)}")


def check_plain(path: Path) -> None:
    """Raise a ValueError unless a path is an ordinary file or missing: a link leads elsewhere, and a pipe would block."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        kind = "a link" if path.is_symlink() else "no ordinary file"
        raise ValueError(f"{path} is {kind}; golflab reads and writes only ordinary files of an experiment's own.")


def _damage(path: Path) -> str:
    """Which line of a journal is damaged, in words."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                whole = line.endswith(b"\n") and isinstance(json.loads(line), dict)
            except (ValueError, RecursionError):
                whole = False
            if not whole:
                return f"{path}, line {number} is damaged"
    return f"{path} is damaged: a line of it is missing"


def _check_ends(path: Path) -> None:
    """Raise an error if the first line creates no study or the last whole line is not JSON: Optuna ignores both."""
    with open(path, "rb") as file:
        first, size = file.readline(1 << 20), file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 20)))
        lines = file.read().splitlines(keepends=True)[-2:]
    if first.endswith(b"\n") and json.loads(first)["op_code"] != 0:
        raise ValueError("it does not begin with a study")
    if (whole := [line for line in lines if line.endswith(b"\n")]) and len(lines) > 1:
        json.loads(whole[-1])


def _drop_torn_line(path: Path) -> None:
    """Remove a last line that has no end: while it was written, a driver died or the disk became full."""
    if not path.exists():
        return
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if file.read(1) in (b"", b"\n"):
            return
        window = min(size, 1 << 20)
        file.seek(size - window)
        file.truncate(size - window + file.read(window).rfind(b"\n") + 1)
