"""The live table: what every trial is doing, on standard error; plain lines where nobody watches a terminal."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from model.recipe import Recipe
from model.record import Record
from search.bridge import Watcher
from search.difference import short
from search.plain import PlainConsole, literal, say
from search.proposal import Proposal
from search.pruner import Agreement

SHOWN = 12  # finished trials kept on screen
STYLES = {"complete": "green", "pruned": "yellow", "failed": "red", "running": "cyan"}


@dataclass
class Row:
    """One trial on screen."""

    number: int
    recipe: str
    began: float = field(default_factory=time.monotonic)
    state: str = "running"
    bpb: float | None = None
    bytes: float | None = None
    progress: float = 0.0
    ended: float | None = None

    def eta(self) -> float | None:
        """Seconds until it ends, from how far it is; None while nothing is known."""
        if self.ended is not None or not self.progress:
            return None
        return (time.monotonic() - self.began) * (1 - self.progress) / self.progress


class LiveTable(Watcher):
    """Shows running trials and the latest finished ones; use it as a context manager around a search.

    Args:
        preset: what short names are relative to.
        total: trials wanted in all.
        console: where to draw; standard error by default.
    """

    def __init__(self, preset: Recipe, total: int, console: Console | None = None) -> None:
        self.console = console or PlainConsole(file=sys.stderr)
        self._preset, self._total = preset, total
        self._rows: dict[int, Row] = {}
        self._ended: list[Row] = []
        self._live: Live | None = None
        self._began = time.monotonic()
        self._spent, self._rungs = {"trainings": 0.0}, list[Agreement]()

    def __enter__(self) -> LiveTable:
        if self.console.is_terminal:
            self._live = Live(self, console=self.console, refresh_per_second=2)
            self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)

    def placed(self, what: str) -> None:
        """What will run where."""
        say(self.console, what + ".")

    def started(self, proposal: Proposal) -> None:
        """A trial was handed to a worker."""
        row = Row(proposal.number, short(proposal.recipe, self._preset), bytes=proposal.forecast.get("mid"))
        self._rows[proposal.number] = row

    def rung(self, number: int, rung: dict[str, Any]) -> None:
        """A trial reached a rung."""
        if row := self._rows.get(number):
            row.bpb, row.bytes = rung.get("bpb", row.bpb), rung.get("bytes", row.bytes)
            row.progress = float(rung.get("progress", row.progress))

    def finished(self, number: int, record: Record) -> None:
        """A trial ended."""
        row = self._rows.pop(number, None) or Row(number, record.preset)
        row.state, row.ended = record.state, time.monotonic()
        row.bpb, row.bytes = record.bpb or row.bpb, record.bytes or row.bytes
        self._ended.append(row)
        if self._live is None:
            took = row.ended - row.began
            why = f"  ({record.reason})" if record.reason else ""
            say(
                self.console,
                f"{len(self._ended):>4}  trial {number}  {row.state:<8}  {_bpb(row.bpb)} bpb  {_bytes(row.bytes)} bytes  "
                f"{took:5.1f} s  {row.recipe}{why}",
            )

    def expects(self, trials: int) -> None:
        """So many more trials will come."""
        self._total += trials

    def note(self, text: str) -> None:
        """Something the user should know now."""
        say(self.console, text)

    def standing(self, spent: dict[str, float], rungs: list[Agreement]) -> None:
        """What has been spent, and how well rungs predict the end."""
        self._spent, self._rungs = spent, rungs

    def __rich__(self) -> Group:
        """Drawn anew at each refresh."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name, right in (
            ("trial", True),
            ("recipe", False),
            ("bpb", True),
            ("bytes", True),
            ("state", False),
            ("ETA", True),
        ):
            table.add_column(name, justify="right" if right else "left", no_wrap=name != "recipe", overflow="ellipsis")
        for row in [*self._ended[-SHOWN:], *self._rows.values()]:
            eta = row.eta()
            how = row.state if row.ended else f"{row.state} {row.progress:.0%}"
            cells = (str(row.number), row.recipe, _bpb(row.bpb), _bytes(row.bytes), how, "" if eta is None else _clock(eta))
            table.add_row(*map(literal, cells), style=STYLES.get(row.state, ""))
        return Group(table, literal(self._footer(), style="dim"))

    def _footer(self) -> str:
        done = len(self._ended)
        elapsed = time.monotonic() - self._began
        best = min((r.bpb for r in self._ended if r.state == "complete" and r.bpb), default=None)
        left = f", about {_clock(elapsed / done * (self._total - done))} left" if 0 < done < self._total else ""
        stop = "Ctrl-C stops; `golflab resume` continues."
        spent = f"{self._spent['trainings']:g} trainings"
        first = f"{done} of {self._total} done, {spent}, best {_bpb(best)}, {_clock(elapsed)}{left}. {stop}"
        return "\n".join([first, *map(str, self._rungs)])


def _bpb(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _bytes(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
