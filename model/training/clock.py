"""The training clock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Seconds of training. It stands still until it is started, and while whatever is not training happens."""

    def __init__(self) -> None:
        self._before = 0.0
        self._since: float | None = None  # None: it stands still

    def seconds(self) -> float:
        """Seconds on the clock."""
        return self._before + (0.0 if self._since is None else time.perf_counter() - self._since)

    def set(self, seconds: float) -> None:
        """Show ``seconds``; it goes on from there if it was going."""
        self._before, self._since = seconds, None if self._since is None else time.perf_counter()

    def start(self) -> None:
        """Let it go."""
        self._before, self._since = self.seconds(), time.perf_counter()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let it stand still for what happens inside."""
        going = self._since is not None
        self._before, self._since = self.seconds(), None
        yield
        if going:
            self.start()
