"""Which experiments there are in a folder, and how each of them stands."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from golflab.model.record import look_through
from golflab.search.engine.standing import UNBOUNDED
from golflab.search.experiment.experiment_file import RESERVED, experiments_in, locate, read_experiment, unknown_experiment
from golflab.search.ledger.book import best_of
from golflab.search.ledger.drivers import Presence


@dataclass
class Listed:
    """One experiment of a list.

    Attributes:
        name: of its folder; if it lies in another experiment's folder, ``OUTER/NAME``.
        state: running, interrupted, finished, out of budget; or damaged, if its ``experiment.json`` cannot be read.
        done: trials that have ended: complete, pruned or failed.
        trials: wanted; None if only a budget limits them.
        best: bits per byte of the best record that is complete and fits.
        updated: when it was last written to, in seconds since 1970.
        age: seconds since then.
        damaged: records that cannot be read.
        reason: why its file cannot be read, or an empty text.
        nested: experiments in its folder.
    """

    name: str
    state: str
    done: int = 0
    trials: int | None = None
    best: float | None = None
    updated: float = 0.0
    age: float = 0.0
    damaged: int = 0
    reason: str = ""
    nested: list[Listed] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """What `golflab list --json` prints of it."""
        return asdict(self)


def listed(runs: Path) -> list[Listed]:
    """The experiments of a folder, in name order.

    Raises:
        ValueError: there is no such folder.
    """
    if not runs.is_dir():
        raise ValueError(f"There is no folder {runs}. Name the folder of experiments with --runs.")
    return [_listed(folder) for folder in experiments_in(runs)]


def _listed(folder: Path, within: str = "") -> Listed:
    name = within + folder.name
    nested = [_listed(below, f"{name}/") for below in experiments_in(folder)]
    found = look_through(folder / "trials")
    best = best_of(record for _, record in found.records)
    out = Listed(name, "damaged", len(found.records), best=None if best is None else best.bpb, nested=nested)
    out.damaged = len(found.damaged)
    try:
        saved = read_experiment(folder)
    except ValueError as error:
        out.reason, out.updated = str(error), (folder / "experiment.json").lstat().st_mtime
    else:
        out.state = "running" if Presence.any_alive(folder) else {"running": "interrupted"}.get(saved["state"], saved["state"])
        wanted = saved["options"].get("trials")
        out.trials = wanted if type(wanted) is int and wanted < UNBOUNDED else None
        out.updated = float(saved.get("updated", 0.0))
    out.age = max(0.0, time.time() - out.updated)
    return out


def existing(name: str, runs: Path) -> Path:
    """The folder of an experiment by its name in ``runs`` or its path, even where its file is damaged.

    Raises:
        ValueError: there is none.
    """
    place = Path(os.path.expanduser(name)) if os.sep in name else runs / name
    if place.is_symlink():
        raise ValueError(f"{place} is a link, and links are not followed here. Name the folder it leads to: {place.resolve()}.")
    folder = locate(name, runs)
    if folder.name.lower() in RESERVED and folder.is_dir() and not os.path.lexists(folder / "experiment.json"):
        raise ValueError(f"{folder.name} is no experiment: it holds {RESERVED[folder.name.lower()]}.")
    if not os.path.lexists(folder / "experiment.json"):
        raise unknown_experiment(folder)
    return folder
