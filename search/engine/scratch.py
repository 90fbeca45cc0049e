"""A temporary folder for Ray's files, with a path that is short enough for its sockets."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "golf-lab-"  # not golflab-: earlier versions remove every folder with that prefix
MARKER = "golflab-scratch"  # a file in every scratch folder, locked while its driver is alive
MARKED = b"golflab: written for one search; removed when it ends.\n"
LONGEST = 103  # bytes that the path of a socket may have (Linux allows 107)
RAY_ADDS = 66  # bytes that Ray appends: /session_YYYY-MM-DD_HH-MM-SS_microseconds_PID/sockets/plasma_store
OURS = 1 + len(PREFIX) + 8  # bytes of our folder's name: what `tempfile.mkdtemp` appends to the prefix
SHORT = ("/tmp", "/var/tmp", "/dev/shm")  # used if the path of the usual folder for temporary files is too long


@contextmanager
def scratch(sockets: bool = True) -> Iterator[str]:
    """A folder that exists until the end of this context; those of killed drivers are removed.

    Args:
        sockets: whether Ray will create its sockets there, so that the path must be short.

    Raises:
        ValueError: no folder with a short enough path can be written.
    """
    base = _base(sockets)
    for left in base.glob(f"{PREFIX}*"):
        _remove_if_abandoned(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    with open(folder / MARKER, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(MARKED)
        file.flush()
        try:
            yield str(folder)
        finally:
            _remove(folder)


def _base(sockets: bool) -> Path:
    """Where temporary files go, or the first short folder that can be written."""
    usual = tempfile.gettempdir()
    if not sockets or len(os.fsencode(usual)) + OURS + RAY_ADDS <= LONGEST:
        return Path(usual)
    for short in SHORT:
        if os.path.isdir(short) and os.access(short, os.W_OK | os.X_OK):
            return Path(short)
    raise ValueError(
        f"The folder for temporary files, {usual}, has too long a path for Ray's sockets, and none of {', '.join(SHORT)} can "
        f"be written. Set TMPDIR to a folder whose path has at most {LONGEST - OURS - RAY_ADDS} characters."
    )


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a scratch folder of this user if its driver is dead; leave everything else as it is."""
    with contextlib.suppress(OSError):
        here = folder.lstat()
        if not stat.S_ISDIR(here.st_mode) or here.st_uid != os.getuid():
            return
        marker = (folder / MARKER).lstat()
        if not stat.S_ISREG(marker.st_mode) or marker.st_uid != os.getuid():
            return
        with open(folder / MARKER, "rb") as file:
            if file.read(len(MARKED) + 1) == MARKED:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its driver is alive
                _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a scratch folder, its marker last. If one of Ray's processes still writes there, the next driver removes it."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name == MARKER:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if [path.name for path in folder.iterdir()] == [MARKER]:
            (folder / MARKER).unlink()
            folder.rmdir()
