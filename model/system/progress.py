"""Progress bars for whatever takes longer than two seconds: on stderr, only on a terminal, and only if rich is there."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

PATIENCE = 2.0  # seconds without a bar


class Progress:
    """A progress bar that shows itself after `PATIENCE` seconds. Use it as a context manager.

    Args:
        what: name of the work, for the user.
        total: units in all; None if unknown.
    """

    def __init__(self, what: str, total: float | None) -> None:
        self.what, self.total = what, total
        self.began = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._silent = not sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: float, note: str = "") -> None:
        """Set how many units are done in all, and a text beside the bar."""
        if self._silent:
            return
        if self._bar is None and time.monotonic() - self.began > PATIENCE:
            self._show()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)

    def _show(self) -> None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress
        except ImportError:  # a bare training machine has no rich; work goes on without a bar
            self._silent = True
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self.what, total=self.total, note="")
        self._bar.start()
