"""What the ledger adds to a trial's record, and what it does with a record that is damaged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path

from optuna.trial import FrozenTrial

from golflab.model.record import Record
from golflab.model.schema import HASH

PROPOSED = ("source", "asked", "not_fitting")  # user attributes of a trial that its record repeats: a study can be lost


def noted(record: Record, trial: FrozenTrial) -> Record:
    """The record with its trial's number, its times, and how the search came to it."""
    record.trial = trial.number
    record.started = _utc(trial.datetime_start) if trial.datetime_start else ""
    record.ended = _utc(trial.datetime_complete or datetime.now())
    record.proposed = {key: trial.user_attrs[key] for key in PROPOSED if key in trial.user_attrs}
    return record


def _utc(local: datetime) -> str:
    return local.astimezone(timezone.utc).isoformat(timespec="milliseconds")


def damaged(folder: Path, sound: Callable[[Path], bool]) -> bool:
    """Whether a trial's folder holds a record that cannot be read.

    Args:
        folder: of the trial.
        sound: says whether the record in a folder can be read.
    """
    return os.path.lexists(folder / "record.json") and not sound(folder)


def set_aside(folder: Path, sound: Callable[[Path], bool]) -> bool:
    """Rename a damaged record (to ``record.damaged``, ``record.damaged-2`` …); whether there was one."""
    if not damaged(folder, sound):
        return False
    names = ["record.damaged", *(f"record.damaged-{n}" for n in range(2, 1000))]
    (folder / "record.json").rename(folder / next(n for n in names if not os.path.lexists(folder / n)))
    return True


def check_known(folder: Path, trials: Iterable[FrozenTrial]) -> None:
    """Check that a study has every trial that left a record, or those would be run again under other numbers.

    Raises:
        ValueError: it has not: lines of its journal are missing.
    """
    known = {trial.user_attrs.get("recipe") for trial in trials}
    there = (p.parent for p in sorted(folder.glob("trials/*/record.json")) if HASH.fullmatch(p.parent.name))
    if lost := [place.name for place in there if place.name not in known and Record.read(place) is not None]:
        raise ValueError(
            f"The study of {folder.name} lacks {len(lost)} trial(s) that have a record ({', '.join(lost[:3])}): a part of it "
            f"is missing. `golflab repair {folder.name}` builds it again from the records."
        )
