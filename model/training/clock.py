"""The training clock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Seconds of training. It is stopped until `start`, and while it is `paused`."""

    def __init__(self) -> None:
        self._before = 0.0
        self._since: float | None = None  # None: the clock is stopped

    def seconds(self) -> float:
        """Seconds on the clock."""
        return self._before + (0.0 if self._since is None else time.perf_counter() - self._since)

    def set(self, seconds: float) -> None:
        """Set the clock to ``seconds``; a running clock keeps running."""
        self._before, self._since = seconds, None if self._since is None else time.perf_counter()

    def start(self) -> None:
        """Start the clock."""
        self._before, self._since = self.seconds(), time.perf_counter()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock inside the context."""
        going = self._since is not None
        self._before, self._since = self.seconds(), None
        yield
        if going:
            self.start()
