"""A folder for what Ray insists on writing: short-lived, with a path short enough for sockets, and never somebody else's."""

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

PREFIX = "golf-lab-"  # not golflab-: earlier versions remove every folder that is called so
MARKER = "golflab-scratch"  # a file in every scratch folder, locked while its driver lives
MARKED = b"golflab: written for one search; removed when it ends.\n"
LONGEST = 103  # bytes that the path of a socket may have (107 on Linux)
RAY_ADDS = 66  # of them are Ray's: /session_YYYY-MM-DD_HH-MM-SS_microseconds_PID/sockets/plasma_store
OURS = 1 + len(PREFIX) + 8  # and these ours: what `tempfile.mkdtemp` makes of the prefix
SHORT = ("/tmp", "/var/tmp", "/dev/shm")  # tried where the usual folder for temporary files has too long a path


@contextmanager
def scratch(sockets: bool = True) -> Iterator[str]:
    """A folder for as long as this driver lives; those of drivers that were killed are removed.

    Args:
        sockets: whether Ray will put its sockets there, so that the path must be short.

    Raises:
        ValueError: no folder with a path short enough can be written.
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
    """Remove a scratch folder of this user's whose driver lives no more; leave everything else as it is."""
    with contextlib.suppress(OSError):
        here = folder.lstat()
        if not stat.S_ISDIR(here.st_mode) or here.st_uid != os.getuid():
            return
        marker = (folder / MARKER).lstat()
        if not stat.S_ISREG(marker.st_mode) or marker.st_uid != os.getuid():
            return
        with open(folder / MARKER, "rb") as file:
            if file.read(len(MARKED) + 1) == MARKED:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its driver lives
                _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a scratch folder, its marker last: what a process of Ray's still writes is found by the next driver."""
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
