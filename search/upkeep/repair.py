"""Repair: a lost or damaged study is rebuilt from the records of its trials and the readable lines of its journal.

A record says how its trial ended and which number it had. The readable lines say which trials were running or waiting. The
damaged journal is kept next to the new one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from golflab.model.record import Found, Record, look_through
from golflab.model.system.wording import number_of, was
from golflab.search.experiment.consent import check_consent
from golflab.search.experiment.experiment_file import read_experiment, write_experiment
from golflab.search.experiment.options import Options
from golflab.search.ledger.drivers import Presence, alone
from golflab.search.ledger.storage import JOURNAL, KernelLock, open_storage
from golflab.search.upkeep.endings import Endings, placeholder
from golflab.search.upkeep.journal import Salvage, salvaged

RUNNING, WAITING = TrialState.RUNNING, TrialState.WAITING
WORDS = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    RUNNING: "running",
    WAITING: "waiting",
}


@dataclass
class Rebuilt:
    """The result of a repair.

    Attributes:
        study: name of the study.
        needed: whether the study was rebuilt; it is not if it was undamaged.
        trials: number of trials in the study now, by state.
        from_records: trials whose end was taken from their record, because the journal did not have it.
        lost: numbers of trials with neither a record nor a readable line; they are marked as withdrawn.
        lines: numbers of the journal's damaged lines.
        damaged: records that cannot be read, and why.
        kept: path of the damaged journal; None if there was none.
        notes: further sentences for the user.
    """

    study: str
    needed: bool = True
    trials: dict[str, int] = field(default_factory=dict)
    from_records: int = 0
    lost: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    kept: Path | None = None
    notes: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """Sentences for the user."""
        if not self.needed:
            return [f"The study {self.study!r} is undamaged; nothing was done.", *self.notes]
        states = ", ".join(f"{count} {name}" for name, count in self.trials.items())
        out = [f"The study {self.study!r} was rebuilt: {states or 'no trial yet'}."]
        if self.from_records:
            out.append(f"The end of {number_of(self.from_records, 'trial')} was taken from the records.")
        if self.lines:
            shown = ", ".join(map(str, self.lines[:10])) + (" …" if len(self.lines) > 10 else "")
            count = len(self.lines)
            out.append(f"{number_of(count, 'damaged line')} of the journal {was(count)} left out: {shown}.")
        if self.lost:
            lost = number_of(len(self.lost), "trial")
            out.append(f"Nothing is known any more about {lost}; the numbers stay, but they do not count.")
        if self.damaged:
            count, named = len(self.damaged), "; ".join(self.damaged[:5])
            again = "its trial" if count == 1 else "their trials"
            out.append(f"{number_of(count, 'damaged record')} {was(count)} left out, and {again} will be run again: {named}.")
        if self.kept is not None:
            out.append(f"The damaged journal is kept as {self.kept.name}.")
        return [*out, *self.notes]


def rebuild(folder: Path, storage: str | None = None, trust: bool = False) -> Rebuilt:
    """Rebuild an experiment's study if it is lost or damaged. A study in a database is filled if it is empty.

    Args:
        folder: of the experiment.
        storage: address of its database, if the user typed it again.
        trust: consent to the values in its file.

    Raises:
        ValueError: there is no such experiment, it is running, or the user has not consented to values in its file.
    """
    saved = read_experiment(folder)
    if Presence.any_alive(folder):
        raise ValueError(f"{folder.name} is running; stop it first.")
    url = storage or saved["options"].get("storage")
    check_consent(folder, saved, ("space", "storage"), ("storage",) if storage else (), trust)
    options = Options.read(saved["options"] | {"name": folder.name, "runs": str(folder.parent)})
    with alone(folder):
        return _in_database(folder, saved, options, url) if url is not None else _in_journal(folder, saved, options)


def _in_journal(folder: Path, saved: dict[str, Any], options: Options) -> Rebuilt:
    name = str(saved.get("study") or saved.get("name") or folder.name)
    found, path = look_through(folder / "trials"), folder / JOURNAL
    old = salvaged(path, name)
    disagreeing = _disagreeing(old.trials, found)
    missing = _unknown(old.trials, found)
    if old.whole and not missing:
        notes = [f"Trial {number}: its record and the study differ; the record was edited." for number in disagreeing]
        return Rebuilt(old.study, needed=False, notes=notes)
    if disagreeing and (old.lines or missing):  # after a lost line, all later lines may refer to other trials
        old = salvaged(path, name, careful=old.lines[0] if old.lines else 0)
    done = Rebuilt(old.study, lines=old.lines, damaged=found.damaged)
    trials = _assembled(folder, options, old, found, done)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".journal.") as place:
        new = Path(place) / JOURNAL
        study = optuna.create_study(study_name=old.study, storage=_storage(new), direction="minimize")
        _fill(study, trials, old)
        if os.path.lexists(path) and path.lstat().st_size:
            done.kept = _free(path)
            path.rename(done.kept)
        os.replace(new, path)
    _count(done, trials)
    if any(t.state in (RUNNING, WAITING) for t in trials) and saved["state"] == "finished":
        write_experiment(folder, saved | {"state": "interrupted"})
    return done


def _in_database(folder: Path, saved: dict[str, Any], options: Options, url: str) -> Rebuilt:
    name = str(saved.get("study") or saved.get("name") or folder.name)
    storage = open_storage(url, folder)
    study = optuna.create_study(study_name=name, storage=storage, direction="minimize", load_if_exists=True)
    if study.get_trials(deepcopy=False):
        return Rebuilt(name, needed=False, notes=["It is in a database, which has its own means of repair."])
    found, done = look_through(folder / "trials"), Rebuilt(name)
    done.damaged = found.damaged
    trials = _assembled(folder, options, Salvage(name), found, done)
    _fill(study, trials, Salvage(name))
    _count(done, trials)
    return done


def _storage(path: Path) -> JournalStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=KernelLock(path)))


def _fill(study: optuna.Study, trials: Iterable[FrozenTrial], old: Salvage) -> None:
    for trial in trials:
        study.add_trial(trial)
    for key, value in old.attributes.items():
        study.set_user_attr(key, value)


def _count(done: Rebuilt, trials: Iterable[FrozenTrial]) -> None:
    words = ["withdrawn" if t.user_attrs.get("withdrawn") else WORDS[t.state] for t in trials]
    done.trials = {word: words.count(word) for word in (*WORDS.values(), "withdrawn") if word in words}


def _free(path: Path) -> Path:
    """A free name next to the journal."""
    number = 1
    while os.path.lexists(kept := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    return kept


def _disagreeing(trials: Iterable[FrozenTrial], found: Found) -> list[int]:
    """Numbers of finished trials whose record has another score."""
    records = {record.recipe: record for _, record in found.records}
    out = []
    for trial in trials:
        record = records.get(trial.user_attrs.get("recipe", ""))
        known = record is not None and record.trial in (None, trial.number) and not trial.user_attrs.get("withdrawn")
        if known and trial.state == TrialState.COMPLETE and record is not None and record.bpb != trial.value:
            out.append(trial.number)
    return out


def _unknown(trials: Iterable[FrozenTrial], found: Found) -> bool:
    """Whether there are records of trials that the study does not have."""
    known = {trial.user_attrs.get("recipe") for trial in trials}
    return any(record.recipe not in known for _, record in found.records)


def _assembled(folder: Path, options: Options, old: Salvage, found: Found, done: Rebuilt) -> list[FrozenTrial]:
    """All trials in the order of their numbers: from the journal if it has their end, else from their records."""
    endings = Endings(folder, options)
    records = {record.recipe: record for _, record in found.records}
    places = {record.recipe: place for place, record in found.records}
    slots = _numbered(old.trials, records)
    by_recipe = {str(t.user_attrs["recipe"]): n for n, t in slots.items() if "recipe" in t.user_attrs and _standing(t)}
    order = lambda r: (r.trial if r.trial is not None else 1 << 60, (places[r.recipe] / "record.json").stat().st_mtime)
    for record in sorted(records.values(), key=order):
        number = by_recipe.get(record.recipe)
        if number is None:
            taken = record.trial is None or (record.trial in slots and not _lost(slots[record.trial]))
            number = max([*slots, -1]) + 1 if taken else int(record.trial or 0)
        before = slots.get(number)
        if before is None or not before.state.is_finished() or _other_end(before, record) or _lost(before):
            slots[number] = endings.ended(record, places[record.recipe], before)
            done.from_records += 1
        else:
            before.user_attrs = endings.facts(record) | before.user_attrs
    known = {t.user_attrs.get("recipe") for t in slots.values()}
    for began in endings.begun(known):
        free = (n for n in range(max([*slots, -1]) + 2) if n not in slots or _lost(slots[n]))
        slots[next(free)] = began
    out = []
    for number in range(max([*slots, -1]) + 1):
        trial = slots.get(number)
        if trial is None or _lost(trial):
            trial = placeholder()
            done.lost.append(number)
        out.append(trial)
    return out


def _lost(trial: FrozenTrial) -> bool:
    """Whether nothing is known about a trial except its number."""
    return "lost" in trial.user_attrs and "recipe" not in trial.user_attrs


def _standing(trial: FrozenTrial) -> bool:
    return not trial.user_attrs.get("withdrawn")


def _other_end(trial: FrozenTrial, record: Record) -> bool:
    """Whether a trial that is complete has another score than its record."""
    return trial.state == TrialState.COMPLETE and record.bpb != trial.value


def _numbered(trials: Iterable[FrozenTrial], records: dict[str, Record]) -> dict[int, FrozenTrial]:
    """The journal's trials by number. If lines were lost, the records show by how much numbers have shifted."""
    slots: dict[int, FrozenTrial] = {}
    moved, following = 0, 0
    for trial in trials:
        record = records.get(trial.user_attrs.get("recipe", ""))
        if record is not None and record.trial is not None and _standing(trial) and record.trial >= trial.number + moved:
            moved = record.trial - trial.number
        number = max(following, trial.number + moved)
        slots[number], following = trial, number + 1
    return slots
