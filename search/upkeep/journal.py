"""The readable lines of a damaged journal, replayed by Optuna's own storage."""

from __future__ import annotations

import json
import re
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from golflab.search.ledger.storage import KernelLock

CREATE_STUDY, CREATE_TRIAL = 0, 4  # codes of operations in Optuna's journal
# Code of an operation -> keys that its line must have besides ``op_code`` and ``worker_id``.
NEEDED: dict[int, tuple[str, ...]] = {
    0: ("study_name", "directions"),
    1: ("study_id",),
    2: ("study_id", "user_attr"),
    3: ("study_id", "system_attr"),
    4: ("study_id", "datetime_start"),
    5: ("trial_id", "param_name", "param_value_internal", "distribution"),
    6: ("trial_id", "state", "values"),
    7: ("trial_id", "step", "intermediate_value"),
    8: ("trial_id", "user_attr"),
    9: ("trial_id", "system_attr"),
    10: (),
}
BEGINNING = re.compile(rb'(?=\{"op_code":)')
UNKNOWN = -1


@dataclass
class Salvage:
    """The content of a journal.

    Attributes:
        study: the study's name.
        trials: of the study, in the order of their numbers. One whose first line is lost has the user attribute ``lost``.
        attributes: the study's user attributes.
        lines: numbers of the damaged lines.
        whole: whether it is undamaged.
    """

    study: str
    trials: list[FrozenTrial] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)
    whole: bool = False


def salvaged(path: Path, name: str, careful: int | None = None) -> Salvage:
    """Read the readable lines of a journal.

    Args:
        path: of the journal; it may be missing.
        name: of the study, used if the journal does not have it.
        careful: from this line on, use only the lines that create trials: the others refer to trials by position, which may
            have shifted.
    """
    operations: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, found in _operations(path):
        if isinstance(found, dict):
            if careful is None or number < careful or found["op_code"] == CREATE_TRIAL:
                operations.append(found)
            continue
        if number not in lines:
            lines.append(number)
        if found == CREATE_TRIAL:
            operations.append(_began())
    headless = not operations or operations[0]["op_code"] != CREATE_STUDY
    if headless:
        operations.insert(0, {"op_code": CREATE_STUDY, "worker_id": "repair", "study_name": name, "directions": [1]})
    try:
        study = _replayed(operations, name)
    except Exception:  # single lines may be valid and still not fit together; Optuna then raises many types of errors
        return Salvage(name, lines=lines)
    return Salvage(study.study_name, study.get_trials(), study.user_attrs, lines, not lines and not headless)


def _replayed(operations: list[dict[str, Any]], name: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "journal"
        path.write_text("".join(json.dumps(one) + "\n" for one in operations))
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=KernelLock(path)))
        names = optuna.get_all_study_names(storage)
        study = optuna.load_study(study_name=name if name in names else names[0], storage=storage)
        study.get_trials(deepcopy=False)
        return _Frozen(study)  # type: ignore[return-value]


class _Frozen:
    """The content of a study whose journal file is deleted."""

    def __init__(self, study: optuna.Study) -> None:
        self.study_name, self.user_attrs, self._trials = study.study_name, dict(study.user_attrs), study.get_trials()

    def get_trials(self) -> list[FrozenTrial]:
        return self._trials


def _operations(path: Path) -> Iterator[tuple[int, dict[str, Any] | int]]:
    """Line numbers and operations; for a damaged line the code of its operation, or `UNKNOWN`."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return
        file = open(path, "rb")  # noqa: SIM115 closed below
    except OSError:
        return
    with file:
        for number, line in enumerate(file, start=1):
            found = [_parsed(line)] if line.endswith(b"\n") else [UNKNOWN]
            if not isinstance(found[0], dict):  # an incomplete line may be followed by a complete one
                found = [_parsed(part) for part in BEGINNING.split(line) if part.strip()] or [UNKNOWN]
                damaged = True
            else:
                damaged = False
            if damaged and all(isinstance(one, dict) for one in found):
                yield number, UNKNOWN
            for one in found:
                yield number, one


def _parsed(part: bytes) -> dict[str, Any] | int:
    try:
        entry = json.loads(part)
    except (ValueError, RecursionError):
        entry = None
    if isinstance(entry, dict):
        code = entry.get("op_code")
        if type(code) is int and code in NEEDED and all(key in entry for key in (*NEEDED[code], "worker_id")):
            return entry
    found = re.match(rb'\{"op_code":\s*(\d+)', part)
    return int(found[1]) if found else UNKNOWN


def _began() -> dict[str, Any]:
    """A replacement for the lost first line of a trial, so that later trials keep their positions."""
    began = {"op_code": CREATE_TRIAL, "worker_id": "repair", "study_id": 0, "user_attrs": {"lost": True}}
    return began | {"datetime_start": datetime.now(timezone.utc).isoformat()}
