"""An experiment on disk: begun, found again, and told from a copy of it.

The folder is the experiment. What it is stands in its ``experiment.json``: an id made when it began, the name of its study,
the place where it was last driven, its options, what must not change (`golflab.search.experiment.identity`), and the code and
the machine.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage

from golflab.model.recipe import Recipe
from golflab.model.system.files import write_atomic
from golflab.search.experiment import provenance
from golflab.search.experiment.consent import CONSENTS, consent
from golflab.search.experiment.experiment_file import FORMAT, read_experiment, write_experiment
from golflab.search.experiment.identity import identity_of, refuse_differences
from golflab.search.experiment.options import Options, command
from golflab.search.ledger.counts import counts
from golflab.search.ledger.database import masked
from golflab.search.ledger.drivers import alone
from golflab.search.ledger.storage import check_journal, open_storage, repair, study_in

PLAN = "plan.json"  # the recipes of an experiment that runs a list
OWNER = "experiment"  # attribute of a study in a shared database: whose it is
ANOTHER = "Choose another --name, or another --storage."


@dataclass
class Experiment:
    """What an experiment is.

    Attributes:
        id: random; a copy has another one.
        study: its study's name in the storage.
        identity: what must not change: see `golflab.search.experiment.identity.identity_of`.
        code: that it was begun with: see `golflab.search.experiment.provenance.code`.
        machine: it was begun on.
        continued: when, with which other code and where it went on.
        consents: the user's signatures under what it imports and connects to: see `golflab.search.experiment.consent`.
    """

    id: str
    study: str
    identity: dict[str, Any]
    code: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    continued: list[dict[str, Any]] = field(default_factory=list)
    consents: dict[str, str] = field(default_factory=dict)

    def json(self, options: Options) -> dict[str, Any]:
        """The part of ``experiment.json`` that says what it is."""
        told = {"format": FORMAT, "name": options.name, "id": self.id, "study": self.study, "place": str(options.folder)}
        told |= {"options": kept(options), "identity": self.identity, "code": self.code, "machine": self.machine}
        return told | {"continued": self.continued, CONSENTS: self.consents}


def kept(options: Options) -> dict[str, Any]:
    """Options as they are kept: without the name and the place, which are the folder's, and without a password."""
    told = dataclasses.asdict(options)
    del told["name"], told["runs"]
    return told | {"storage": None if options.storage is None else masked(options.storage), "finish": list(options.finish)}


def begin(options: Options, plan: Sequence[Recipe] | None = None) -> Experiment:
    """A new experiment; nothing is written yet.

    Raises:
        ValueError: its corpus or tokenizer cannot be used.
    """
    identity = identity_of(options, plan)
    own = Experiment(uuid.uuid4().hex, options.name, identity, provenance.code(), provenance.machine())
    own.consents = consent(kept(options))
    return own


def create(options: Options, own: Experiment, plan: Sequence[Recipe] | None = None) -> None:
    """Create an experiment's folder; of two that are created at once, one is refused.

    Raises:
        ValueError: somebody else was first, here or with a study of this name in a shared storage.
    """
    folder = options.folder
    if options.storage is not None:
        claim(open_storage(options.storage, folder), own, options, new=True)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        if (folder / "experiment.json").exists():
            raise ValueError(f"Another experiment called {options.name!r} was begun just now; choose another --name.")
        if plan is not None:
            write_atomic(folder / PLAN, json.dumps([recipe.to_json() for recipe in plan]).encode())
        body = own.json(options) | {"state": "running", "reason": "", "counts": counts([]), "spent": {}, "seconds": 0.0}
        write_experiment(folder, body | {"resume": options.resume_command, "design": options.design or None})


def reopen(options: Options) -> tuple[Experiment, list[str]]:
    """An experiment that goes on, and what its user should know.

    A copy, whose original still exists where it was last driven, gets an id of its own; in a shared storage a study of its
    own as well, filled from its records. What was moved or renamed goes on as what it is.

    Raises:
        ValueError: what must not change has changed, or its study is lost.
    """
    folder = options.folder
    told = read_experiment(folder)
    if options.storage is None:
        check_journal(folder)
    now = identity_of(options, read_plan(folder))
    refuse_differences(
        f"{folder.name} cannot go on",
        told.get("identity", {}),
        now,
        "Put back what was changed, or start another experiment.",
    )
    own = Experiment(told.get("id") or uuid.uuid4().hex, str(told.get("study") or told.get("name") or folder.name), now)
    own.code, own.machine = told.get("code") or provenance.code(), told.get("machine") or provenance.machine()
    own.continued = told.get("continued", [])
    same = kept(options) == told["options"]
    own.consents = consent(kept(options), told.get(CONSENTS) if same else None)
    notes = _code_notes(own)
    copied = _is_copy(folder, told)
    if copied:
        own.id = uuid.uuid4().hex
        notes.append(f"{folder} is a copy of {told['place']}; it goes on as an experiment of its own.")
    if options.storage is None:
        own.study = study_in(open_storage(None, folder), {"study": own.study}, None, folder)
    elif copied:
        _own_study(options, own, told)
    else:
        storage = open_storage(options.storage, folder)
        own.study = study_in(storage, {"study": own.study}, options.storage, folder)
        claim(storage, own, options)
    return own, notes


def _code_notes(own: Experiment) -> list[str]:
    """Note where the code is another one than before; results of other code are kept apart by the stage cache."""
    now = provenance.code()
    before = own.continued[-1]["code"] if own.continued else own.code
    if all(before.get(key) == now.get(key) for key in ("version", "commit", "diff_hash")):
        return []
    own.continued = [*own.continued, {"at": time.time(), "code": now, "machine": provenance.machine()}]
    return [f"The code has changed: {provenance.in_words(before)} before, {provenance.in_words(now)} now."]


def _is_copy(folder: Path, told: dict[str, Any]) -> bool:
    """Whether the original still exists where the experiment was last driven."""
    place = told.get("place")
    if not place or Path(place) == folder:
        return False
    try:
        original = Path(place)
        if not original.is_dir() or original.samefile(folder):
            return False
        return bool(told.get("id")) and read_experiment(original).get("id") == told["id"]
    except (ValueError, OSError):
        return False


def _own_study(options: Options, own: Experiment, told: dict[str, Any]) -> None:
    """Give a copy a study of its own in a shared storage; the original's is left alone."""
    try:
        rebuild = importlib.import_module("golflab.search.upkeep.repair").rebuild
    except ImportError:
        raise ValueError(f"{options.folder} is a copy that shares a storage; {repair(options.folder)}") from None
    own.study = f"{own.study}-{own.id[:6]}"
    write_experiment(options.folder, told | own.json(options))
    claim(open_storage(options.storage, options.folder), own, options, new=True)
    rebuild(options.folder, storage=options.storage)


def check_study(options: Options, own: Experiment) -> None:
    """Check, before anything is started, that a shared storage has no other experiment's study of this name.

    Raises:
        ValueError: it has; the message says what differs. Or the storage cannot be opened.
    """
    if options.storage is None:
        return
    storage = open_storage(options.storage, options.folder)
    if own.study in optuna.get_all_study_names(storage):
        _refuse_others(storage, own, options)


def _refuse_others(storage: BaseStorage, own: Experiment, options: Options) -> None:
    """Refuse a study that belongs to another experiment, or to nobody who is known."""
    where = f"The study {own.study!r} in {masked(options.storage or '')}"
    other = optuna.load_study(study_name=own.study, storage=storage).user_attrs.get(OWNER)
    if other is None:
        raise ValueError(f"{where} exists already, and is not this experiment's. {ANOTHER}")
    if other["id"] != own.id:
        where += f" belongs to the experiment in {other['place']}"
        refuse_differences(where, other["identity"], own.identity, ANOTHER)
        raise ValueError(f"{where}: `{command('resume', Path(other['place']))}` goes on with it. {ANOTHER}")


def claim(storage: BaseStorage, own: Experiment, options: Options, new: bool = False) -> None:
    """Write down in a shared storage whose study it is.

    Raises:
        ValueError: it is another experiment's; the message says what differs.
    """
    if new:
        try:
            optuna.create_study(study_name=own.study, storage=storage, direction="minimize")
        except DuplicatedStudyError:
            _refuse_others(storage, own, options)
    study = optuna.load_study(study_name=own.study, storage=storage)
    if study.user_attrs.get(OWNER) is not None:
        _refuse_others(storage, own, options)
    study.set_user_attr(OWNER, {"id": own.id, "place": str(options.folder), "identity": own.identity})


def read_plan(folder: Path) -> list[Recipe] | None:
    """The recipes of an experiment that runs a list; None where there is no list.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / PLAN
    if not path.exists():
        return None
    try:
        return [Recipe.from_json(body) for body in json.loads(path.read_text())]
    except (ValueError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}); put an earlier copy in its place.") from None
