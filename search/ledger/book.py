"""The study as the ledger reads and writes it: looked at once for every question, with totals that are kept up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from golflab.model.record import Record
from golflab.search.ledger.counts import Totals


class Book:
    """A study and its records.

    Args:
        study: the study.
        storage: where it is kept.
        folder: of the records, by recipe.
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
        """What all trials add up to now."""
        self.trials()
        return self._totals

    def unfinished(self, state: TrialState) -> list[FrozenTrial]:
        """The trials that run, or that wait."""
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
        """Whether the record in a folder is whole; one that has not changed since it was found whole is not read again."""
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
