"""The display of a running search on standard error: a live table on a terminal, otherwise a few plain lines."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table

from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.model.system.wording import number_of
from golflab.search.engine.running import in_words, running_state, stage_of
from golflab.search.engine.searcher import Watcher
from golflab.search.engine.standing import Opening, Standing
from golflab.search.ledger.pruners import Agreement
from golflab.search.sampler.proposal import Proposal
from golflab.search.terminal.live_rows import Row, bpb_text, bytes_text, columns_of, duration, rate_text, recipe_of, score_of
from golflab.search.terminal.plain import PlainConsole, literal, say
from golflab.spaces.difference import against, short

SHOWN = 12  # finished trials kept on screen
FEWEST = 3  # of them that are shown even on a low screen
HEARTBEAT = 60.0  # seconds of silence, without a terminal, before the running trials are printed
NARROW, WIDE = 72, 100  # terminal widths: below the first some columns are left out, from the second on one is added
STYLES = {"best": "bold green", "complete": "green", "pruned": "yellow", "failed": "red", "running": "cyan"}


class LiveTable(Watcher):
    """Shows running trials and the latest finished ones; use it as a context manager around a search.

    Args:
        preset: recipe that the best one is compared with.
        total: trials wanted in all.
        console: to draw on; standard error by default.
        clock: returns the time in seconds; tests pass their own.
    """

    shown = SHOWN

    def __init__(
        self, preset: Recipe, total: int, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console or PlainConsole(file=sys.stderr)
        self._preset, self._clock = preset, clock
        self._live: Live | None = None
        self._rows: dict[int, Row] = {}
        self._ended: list[Row] = []
        self._best: Row | None = None
        self._name, self._resume, self._folder = "", "golflab resume", Path()
        self._rungs: list[Agreement] = []
        self._now, self._as_of = Standing(target=total), clock()
        self._starting, self._said, self._over = ("", 0.0), clock(), False

    def __enter__(self) -> LiveTable:
        if self.console.is_terminal:
            self._live = Live(self, console=self.console, refresh_per_second=1)
            self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._over = True
        if self._live is not None:
            self._live.__exit__(*error)

    # ------------------------------------------------------------------ what it hears

    def opened(self, found: Opening) -> None:
        """An experiment starts or continues, in this state."""
        if self._name and self._name != found.name:
            self._say(f"{self._name}: {self._standing()}.")
        self._name, self._resume, self._folder = found.name, found.resume, found.folder
        self._rows, self._ended, self._best = {}, [], None
        for number, record in found.finished:
            row = Row(number, recipe_of(record), self._clock(), ended=self._clock())
            self._enter(row, record)
        self._now, self._as_of = found.standing, self._clock()
        if self._now.done and self._live is None:
            self._say(f"{self._name} continues: {self._standing()}.")

    def starting(self, what: str) -> None:
        """Something that takes seconds starts."""
        self._starting = what, self._clock()
        if self._live is None:
            self._say(f"{what[:1].upper()}{what[1:]} …")

    def placed(self, what: str) -> None:
        """How trials are placed on the cluster."""
        began, since = self._starting
        took = f" ({began} took {self._clock() - since:.0f} s)" if began else ""
        self._starting = "", 0.0
        self._say(f"{what}{took}.")

    def started(self, proposal: Proposal) -> None:
        """A trial was handed to a worker."""
        row = Row(proposal.number, proposal.recipe, self._clock(), bytes=proposal.forecast.get("mid"))
        self._rows[proposal.number] = row

    def rung(self, number: int, rung: dict[str, Any]) -> None:
        """A trial reached a rung."""
        if row := self._rows.get(number):
            row.bpb, row.bytes = rung.get("bpb", row.bpb), rung.get("bytes", row.bytes)
            row.progress = float(rung.get("progress", row.progress))

    def finished(self, number: int, record: Record) -> None:
        """A trial ended."""
        row = self._rows.pop(number, None) or Row(number, recipe_of(record), self._clock())
        row.ended, before = self._clock(), self._best
        self._enter(row, record)
        self._now = replace(self._now, done=self._now.done + 1)
        if self._live is None:
            why = f"  ({row.reason})" if row.reason else ""
            best = "  the best so far" if row is self._best else ""
            words = self._words(row, before) or "the preset"
            self._say(
                f"{self._now.done:>4}  trial {number}  {row.state:<8}  {bpb_text(row.bpb)} bpb  {bytes_text(row.bytes)} bytes  "
                f"{row.ended - row.began:5.1f} s{best}  {words}{why}"
            )

    def expects(self, trials: int) -> None:
        """This many more trials follow."""
        self._now = replace(self._now, target=(self._now.target or 0) + trials, left=None)  # their time is unknown

    def note(self, text: str) -> None:
        """Something the user should know now."""
        self._say(text)

    def standing(self, spent: dict[str, float], rungs: list[Agreement], now: Standing | None = None) -> None:
        """What has been spent, how well rungs predict the final score, and the progress."""
        self._rungs = rungs
        if now is not None:
            self._now, self._as_of = now, self._clock()
        else:
            self._now = replace(self._now, spent=spent)

    def tick(self) -> None:
        """Without a terminal, print the running trials after a minute of silence."""
        if self._live is None and self._rows and self._clock() - self._said >= HEARTBEAT:
            what = "; ".join(f"trial {n} {in_words(self._state(row))}" for n, row in sorted(self._rows.items()))
            self._say(f"running: {what}. {self._standing()}.")

    def _enter(self, row: Row, record: Record) -> None:
        """Add a trial that has ended, and see whether it is the best one."""
        row.state, row.reason = record.state, record.reason
        row.bpb, row.bytes = record.bpb or row.bpb, record.bytes or row.bytes
        self._ended.append(row)
        fits = (record.bytes or 0) <= record.spec.get("limit", math.inf)
        if record.state == "complete" and record.bpb is not None and fits and record.bpb < score_of(self._best):
            self._best = row

    def _say(self, text: str) -> None:
        self._said = self._clock()
        say(self.console, text)

    # ------------------------------------------------------------------ what it shows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Drawn at each refresh: the latest finished trials, the running ones, and the progress of the search."""
        footer, running = self._footer(), list(self._rows.values())
        height = (options.height or console.height) if console.is_terminal else 100
        room = max(FEWEST, height - len(footer) - 3 - len(running)) if self._live else SHOWN
        ended = self._ended[-min(SHOWN, room) :]
        if self._best is not None and self._best not in ended:
            ended = [self._best, *ended[1:]]
        narrow = options.max_width < NARROW
        if ended:
            yield self._finished(ended, narrow)
        if running:
            yield self._running(running, options.max_width)
        for line in footer:
            yield literal(line, style="dim")

    def _finished(self, rows: list[Row], narrow: bool) -> Table:
        table = columns_of({"trial": True, "bpb": True, **({} if narrow else {"bytes": True}), "state": False})
        for row in rows:
            state = "best" if row is self._best else row.state
            cells = [str(row.number), bpb_text(row.bpb), *([] if narrow else [bytes_text(row.bytes)]), state]
            words = "; ".join(filter(None, [row.reason, self._words(row, self._best)]))
            table.add_row(*map(literal, [*cells, words]), style=STYLES.get(state, ""))
        return table

    def _running(self, rows: list[Row], width: int) -> Table:
        names = {"trial": True, "stage": False, "step": True, "loss": True}
        names |= {"tok/s": True, "left": True} if width >= NARROW else {}
        names |= {"bpb": True} if width >= WIDE else {}
        table = columns_of(names)
        for row in rows:
            state = self._state(row)
            steps = f"/{state['steps']}" if "steps" in state else ""
            speed, left = state.get("tokens_per_second"), self._row_left(row, state)
            values = {
                "trial": str(row.number),
                "stage": stage_of(state),
                "step": f"{state['step']}{steps}" if "step" in state else "–",
                "loss": f"{state['loss']:.3f}" if "loss" in state else "–",
                "tok/s": "–" if speed is None else rate_text(speed),
                "left": "–" if left is None else duration(left),
                "bpb": bpb_text(row.bpb),
            }
            cells = [*(values[name] for name in names), self._words(row, self._best)]
            table.add_row(*map(literal, cells), style=STYLES["running"])
        return table

    def _words(self, row: Row, best: Row | None) -> str:
        """How a trial differs from the best one; for the best one, how it differs from the preset."""
        if row.recipe is None:
            return ""
        if best is None or best.recipe is None or row is best:
            return short(row.recipe, self._preset)
        return against(row.recipe, best.recipe)

    def _state(self, row: Row) -> dict[str, Any]:
        return running_state(self._folder, row.recipe.hash) if self._name and row.recipe else {"stage": "waiting"}

    def _row_left(self, row: Row, state: dict[str, Any]) -> float | None:
        """Estimated seconds until a trial's training ends; None while unknown."""
        progress = max(row.progress, state.get("progress", 0.0)) if state["stage"] in ("training", "measuring") else 0.0
        return (self._clock() - row.began) * (1 - progress) / progress if progress else None

    def _standing(self) -> str:
        """The progress of the search, in one line."""
        now, passed = self._now, self._clock() - self._as_of
        done = f"{now.done} of {now.target} done" if now.target is not None else f"{now.done} done"
        best = "–" if self._best is None else f"{bpb_text(self._best.bpb)} (trial {self._best.number})"
        line = f"{done}, best {best}, {duration(now.seconds + passed)}"
        if now.left is None or self._over:
            return line
        by = "" if now.bound == "trials" else f" by the budget of {now.bound}"
        about = "at most" if now.bound == "time" else "about"
        return f"{line}, {about} {duration(max(0.0, now.left - passed))} left{by}"

    def _budget(self) -> str:
        """What was spent, and the rest of each part of the budget."""
        now, spent = self._now, {"trainings": 0.0, "seconds": 0.0} | self._now.spent
        left = []
        if math.isfinite(now.budget.seconds):
            gone = now.seconds + self._clock() - self._as_of
            left.append(f"{duration(max(0.0, now.budget.seconds - gone))} of {duration(now.budget.seconds)}")
        if math.isfinite(now.budget.trainings):
            rest = max(0.0, now.budget.trainings - spent["trainings"])
            left.append(f"{rest:g} of {number_of(now.budget.trainings, 'training')}")
        if math.isfinite(now.budget.gpu_seconds):
            hours = [max(0.0, now.budget.gpu_seconds - spent["seconds"] * now.gpus) / 3600, now.budget.gpu_seconds / 3600]
            left.append("{:.2f} of {:g} GPU hours".format(*hours))
        return f"spent: {number_of(spent['trainings'], 'training')}" + (f"; budget left: {', '.join(left)}" if left else "")

    def _footer(self) -> list[str]:
        what, since = self._starting
        lines = [f"{what} … {self._clock() - since:.0f} s"] if what else []
        if what and not self._name:
            return lines  # the experiment is not open yet
        lines += [f"{self._name}: {self._standing()}" if self._name else self._standing(), self._budget()]
        lines += map(str, self._rungs)
        return lines if self._over else [*lines, f"Ctrl-C stops; `{self._resume}` continues."]
