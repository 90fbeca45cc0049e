"""Files that are either whole or not there."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds either all of it or what it held before, even after a power cut.

    It is written under a name nobody else can choose, for process ids repeat on other machines that share the folder. Where
    the process is killed in between, that file stays behind; `golflab clean` finds it by its ending, ``.tmp``.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)  # half a file helps nobody, least of all a disk that is full
        raise
