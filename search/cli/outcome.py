"""How the commands that run an experiment show it while it runs, and what they say and write at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from golflab.search.cli.arguments import err, out
from golflab.search.terminal import show


def watched(options: Any, work: Any, trials: int | None = None) -> Any:
    """Do ``work`` with a live table of an experiment's trials on stderr."""
    from golflab.search.terminal.live_table import LiveTable

    with LiveTable(options.recipe(), trials or options.trials) as watcher:
        return work(watcher)


def finish(result: Any, as_json: bool, storage: str | None = None) -> None:
    """Say how a search ended and leave its report."""
    from golflab.search.upkeep.status import status_of

    show.status(err, status_of(result.folder, storage))
    if not result.finished:
        raise SystemExit(130)
    if result.best is None:
        none = "Nothing completed fits the byte limit." if result.counts["complete"] else "No trial completed within the limit."
        err.print(none, style="red")
    write_report(result.folder, as_json)
    if result.counts["complete"] == 0 and result.counts["failed"]:
        raise SystemExit(1)


def write_report(folder: Path, as_json: bool) -> None:
    """Print an experiment's report, and write it as a page."""
    from golflab.analysis.report.report import report as work_out

    told = work_out(folder)
    page = told.html(folder / "report.html")
    if as_json:
        show.emit(told.json())
    else:
        told.text(out)
        err.print(f"Report: {page}", highlight=False, soft_wrap=True)
