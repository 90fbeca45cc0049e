"""A study and the records of its trials on disk, as the ledger reads and writes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from golflab.model.record import Record
from golflab.model.schema import HASH
from golflab.model.system.wording import number_of
from golflab.search.ledger.counts import Totals

PROPOSED = ("source", "asked", "not_fitting")  # user attributes of a trial that its record repeats, because a study can be lost


class Book:
    """A study and its records.

    Args:
        study: the study.
        storage: where it is kept.
        folder: of the records; each lies in a folder named by its recipe's hash.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage, folder: Path) -> None:
        self._study, self._storage, self._folder = study, storage, folder
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._totals, self._whole = Totals(), dict[str, tuple[int, int]]()

    def trials(self) -> list[FrozenTrial]:
        """All trials as they are now."""
        trials = self._study.get_trials(deepcopy=False)
        self._totals.update(trials)
        return trials

    def totals(self) -> Totals:
        """Sums over all trials as they are now."""
        self.trials()
        return self._totals

    def unfinished(self, state: TrialState) -> list[FrozenTrial]:
        """The running or the waiting trials."""
        return [t for t in self.totals().unfinished if t.state == state]

    def frozen(self, number: int) -> FrozenTrial:
        """One trial as it is now."""
        return self._storage.get_trial(self._id(number))

    def trial(self, number: int) -> optuna.Trial:
        """One trial, to write to."""
        return optuna.Trial(self._study, self._id(number))

    def attribute(self, number: int, key: str, value: Any) -> None:
        """Set a user attribute of a trial."""
        self._storage.set_trial_user_attr(self._id(number), key, value)

    def close(self, number: int, state: TrialState, reason: str, value: float | None = None) -> None:
        """End a trial."""
        if reason:
            self.attribute(number, "reason", reason)
        self._study.tell(number, value, state=state)

    def where(self, trial: FrozenTrial) -> Path:
        """The folder of a trial's record, which may not exist."""
        return self._folder / trial.user_attrs.get("recipe", "unknown")

    def record(self, trial: FrozenTrial) -> Record | None:
        """A trial's record; None where there is none or it is damaged."""
        return Record.read(self.where(trial))

    def readable(self, folder: Path) -> bool:
        """Whether the record in a folder can be read. It is not read again until its file has changed."""
        try:
            there = (folder / "record.json").stat()
        except OSError:
            return False
        stamp = there.st_mtime_ns, there.st_size
        if self._whole.get(folder.name) != stamp:
            if Record.read(folder) is None:
                return False
            self._whole[folder.name] = stamp
        return True

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def best_of(records: Iterable[Record]) -> Record | None:
    """The record with the fewest bits per byte among those that are complete and fit; None if there is none."""
    return min((r for r in records if r.fits), key=lambda r: r.bpb or 0.0, default=None)


def noted(record: Record, trial: FrozenTrial) -> Record:
    """The record with its trial's number, its times, and how it was proposed."""
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
        sound: whether the record in a folder can be read.
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
    """Check that a study has every trial that has a record. Otherwise these would be run again under other numbers.

    Raises:
        ValueError: some are missing, because lines of its journal are.
    """
    known = {trial.user_attrs.get("recipe") for trial in trials}
    there = (p.parent for p in sorted(folder.glob("trials/*/record.json")) if HASH.fullmatch(p.parent.name))
    if lost := [place.name for place in there if place.name not in known and Record.read(place) is not None]:
        raise ValueError(
            f"A part of the study of {folder.name} is missing: {number_of(len(lost), 'trial')} with a record "
            f"({', '.join(lost[:3])}). `golflab repair {folder.name}` rebuilds it from the records."
        )
