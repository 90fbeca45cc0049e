"""Where a search is kept: its Optuna storage, ``experiment.json``, and who is driving it.

The default storage is a journal file in the experiment's folder, locked with ``flock``: the kernel releases such a lock
when its holder dies, so a killed driver never leaves one behind (Optuna's own locks wait thirty seconds for that).
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from model.files import write_atomic

JOURNAL = "study.journal"


class KernelLock(JournalFileOpenLock):
    """A journal lock the kernel gives back when the process that holds it dies."""

    def __init__(self, journal: Path) -> None:
        self._journal, self._path = journal, journal.with_name(f"{journal.name}.lock")
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._file = open(self._path, "ab")  # noqa: SIM115 held until release
        fcntl.flock(self._file, fcntl.LOCK_EX)
        _drop_torn_line(self._journal)  # before anything is written behind it
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """Open the Optuna storage at ``url``, or the experiment's own journal file.

    Raises:
        ValueError: the URL cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url is None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / JOURNAL
        lock = KernelLock(path)
        lock.acquire()
        lock.release()
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    try:
        return optuna.storages.get_storage(url)
    except Exception as error:
        raise ValueError(f"storage {url!r} cannot be opened: {error}") from error


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line without an end: a driver died, or the disk filled up, while it was being written."""
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


class Presence:
    """Says that this driver is alive, for as long as it is: a locked file in the experiment's folder."""

    def __init__(self, folder: Path) -> None:
        self.name = uuid.uuid4().hex[:8]
        self._folder = folder / "drivers"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = open(self._folder / self.name, "ab")  # noqa: SIM115 held while the driver lives
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def alive(self, name: str) -> bool:
        """Whether the driver called ``name`` still runs."""
        if name == self.name:
            return True
        try:
            with open(self._folder / name, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @staticmethod
    def any_alive(folder: Path) -> bool:
        """Whether any driver of an experiment still runs."""
        for path in (folder / "drivers").glob("*"):
            with open(path, "ab") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
        return False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Do something while no other driver of the experiment does."""
        with open(self._folder.with_suffix(".lock"), "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def leave(self) -> None:
        """Say goodbye."""
        (self._folder / self.name).unlink(missing_ok=True)
        self._file.close()


def write_experiment(folder: Path, body: dict[str, Any]) -> None:
    """Write ``experiment.json``: the search's options, its counts and how it stands."""
    write_atomic(folder / "experiment.json", json.dumps(body | {"updated": time.time()}, indent=1).encode())


def read_experiment(folder: Path) -> dict[str, Any]:
    """Read ``experiment.json``.

    Raises:
        ValueError: there is none: the experiment does not exist.
    """
    path = folder / "experiment.json"
    if not path.exists():
        known = sorted(p.parent.name for p in folder.parent.glob("*/experiment.json"))
        raise ValueError(
            f"There is no experiment called {folder.name!r} in {folder.parent}. There are: {', '.join(known) or 'none'}."
        )
    return json.loads(path.read_text())
