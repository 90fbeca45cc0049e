"""Files that are written completely or not at all, and locks that are released when their process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which is renamed to ``path`` at the end: ``path`` has either all of it or its old content.

    It is written under a random name, because process ids can repeat on machines that share the folder. If the process is
    killed while it writes, that file remains; `golflab clean` finds it by its ending, ``.tmp``. It is flushed to the disk
    before it is renamed, so that a power failure leaves either the old or the new content.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # an incomplete file is of no use, and the disk may be full
        raise


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``: see `atomic`."""
    with atomic(path) as file:
        file.write(content)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``, a file that is made where it is missing; another process waits for it.

    The kernel releases the lock when the process ends, however it ends. Between machines that share the folder the lock holds
    where the file system passes ``flock`` on to its server (NFS 4, Lustre mounted with ``flock``, CephFS).
    """
    while True:
        with open(path, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file.fileno(), path):  # else it was removed while we waited: `golflab clean` removes locks nobody holds
                yield
                return


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that ``path`` names now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
