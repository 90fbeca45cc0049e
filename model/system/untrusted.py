"""Reads files that may be damaged or hostile: with limits, and with a reason where a file is refused."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any


def read_whole(path: Path, most: int) -> bytes:
    """Read a file that somebody else may have put there: never a link, a pipe or a device, and never more than ``most`` bytes.

    Raises:
        FileNotFoundError: there is nothing of this name.
        ValueError: it is no ordinary file, it cannot be opened, or it is too large. The message says what it is and no more.
    """
    try:
        # Opened without waiting (a pipe would make one wait for a writer) and without following a link.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        raise
    except OSError as error:
        said = "it is a link, which is not followed" if path.is_symlink() else f"it cannot be opened: {error.strerror}"
        raise ValueError(said) from None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise ValueError("it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no ordinary file")
    with open(handle, "rb") as file:
        if status.st_size > most:
            raise ValueError(f"it has {status.st_size:,} bytes, at most {most:,} are read")
        try:
            return file.read(most)
        except OSError as error:
            raise ValueError(f"it cannot be read: {error.strerror}") from None


def read_json(path: Path, most: int = 64_000_000) -> Any:
    """Read a JSON file as `read_whole` does: UTF-8, finite numbers, not nested without end.

    Raises:
        FileNotFoundError: there is nothing of this name.
        ValueError: it cannot be read. The message says why and no more.
    """
    return parse_json(read_whole(path, most))


def parse_json(content: bytes) -> Any:
    """Parse JSON text, which may begin with a byte order mark.

    Raises:
        ValueError: it is none, it holds NaN or infinity, or it is nested too deep.
    """
    if not content.strip():
        raise ValueError("it is empty")
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=_refused)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON (line {error.lineno}, column {error.colno}: {error.msg})") from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _refused(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is no number")
