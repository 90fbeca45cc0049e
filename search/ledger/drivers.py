"""Which drivers of an experiment are alive, and locks between them.

A driver is a process that runs a search. The kernel releases its lock when it dies, so a killed driver leaves no lock behind.
"""

from __future__ import annotations

import fcntl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Presence:
    """Says that this driver is alive, for as long as it is: a locked file in the experiment's folder."""

    def __init__(self, folder: Path) -> None:
        self.name = uuid.uuid4().hex[:8]
        self._folder = folder / "drivers"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = open(self._folder / self.name, "ab")  # noqa: SIM115 held while the driver is alive
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def alive(self, name: str) -> bool:
        """Whether the driver called ``name`` is alive; an empty name is no driver's."""
        if name == self.name:
            return True
        if not name or "/" in name:
            return False
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
        """Whether any driver of an experiment is alive."""
        for path in (folder / "drivers").glob("*"):
            if path.is_symlink() or not path.is_file():
                continue
            with suppress(FileNotFoundError, PermissionError), open(path, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
        return False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock that all drivers of the experiment share."""
        with alone(self._folder.parent):
            yield

    def leave(self) -> None:
        """This driver is done: remove its file."""
        (self._folder / self.name).unlink(missing_ok=True)
        self._file.close()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock that all drivers of an experiment share."""
    with open(folder / "drivers.lock", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
