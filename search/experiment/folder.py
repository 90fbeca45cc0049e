"""An experiment on disk: created, opened again, and distinguished from a copy of it.

The folder is the experiment. Its ``experiment.json`` holds an id made at the start, the name of its study, the path where it
last ran, its options, its identity (`golflab.search.experiment.identity`), and the code and the machine.
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

from golflab.model.recipe import Recipe, digest
from golflab.model.system.files import write_atomic
from golflab.search.experiment import provenance
from golflab.search.experiment.consent import CONSENTS, consent
from golflab.search.experiment.experiment_file import FORMAT, command, read_experiment, write_experiment
from golflab.search.experiment.identity import identity_of, refuse_differences
from golflab.search.experiment.options import Options
from golflab.search.ledger.counts import counts
from golflab.search.ledger.database import masked
from golflab.search.ledger.drivers import Presence, alone
from golflab.search.ledger.storage import check_journal, open_storage, repair, study_in

PLAN = "plan.json"  # the recipes of an experiment that runs a plan
OWNER = "experiment"  # attribute of a study in a shared database: the experiment that it belongs to
ANOTHER = "Choose another --name, or another --storage."


@dataclass
class Experiment:
    """What identifies an experiment.

    Attributes:
        id: random; a copy has another one.
        study: its study's name in the storage.
        identity: what must not change: see `golflab.search.experiment.identity.identity_of`.
        code: that it was started with: see `golflab.search.experiment.provenance.code`.
        machine: it was started on.
        continued: when, with which other code and on which machine it was continued.
        consents: signatures of users who consented to its values: see `golflab.search.experiment.consent`.
    """

    id: str
    study: str
    identity: dict[str, Any]
    code: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    continued: list[dict[str, Any]] = field(default_factory=list)
    consents: dict[str, str] = field(default_factory=dict)

    def json(self, options: Options) -> dict[str, Any]:
        """The part of ``experiment.json`` that identifies it."""
        body = {"format": FORMAT, "name": options.name, "id": self.id, "study": self.study, "place": str(options.folder)}
        body |= {"options": kept(options), "identity": self.identity, "code": self.code, "machine": self.machine}
        return body | {"continued": self.continued, CONSENTS: self.consents}


def kept(options: Options) -> dict[str, Any]:
    """Options as they are stored: without name and path, which are those of the folder, and without a password."""
    values = dataclasses.asdict(options)
    del values["name"], values["runs"]
    values |= {"finish": list(options.finish), "prior": [list(row) for row in options.prior]}
    return values | {"storage": None if options.storage is None else masked(options.storage)}


def begin(options: Options, plan: Sequence[Recipe] | None = None) -> Experiment:
    """Make a new experiment; nothing is written yet.

    Raises:
        ValueError: its corpus or tokenizer cannot be used.
    """
    identity = identity_of(options, plan)
    own = Experiment(uuid.uuid4().hex, options.name, identity, provenance.code(), provenance.machine())
    own.consents = consent(kept(options))
    return own


def create(options: Options, own: Experiment, plan: Sequence[Recipe] | None = None) -> None:
    """Create an experiment's folder. If two are created at the same time, one of them fails.

    Raises:
        ValueError: another process created it first, or a study of this name in a shared storage.
    """
    folder = options.folder
    if options.storage is not None:
        claim(open_storage(options.storage, folder), own, options, new=True)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        if (folder / "experiment.json").exists():
            raise ValueError(f"Another experiment called {options.name!r} was started just now; choose another --name.")
        if plan is not None:
            _write_plan(folder, plan)
        body = own.json(options) | {"state": "running", "reason": "", "counts": counts([]), "spent": {}, "seconds": 0.0}
        write_experiment(folder, body | {"resume": options.resume_command, "design": options.design or None})


def reopen(options: Options) -> tuple[Experiment, list[str]]:
    """Open an experiment to continue it; return it and notes for the user.

    It is a copy if the original still exists at the path where it last ran. A copy gets its own id and, in a shared storage,
    its own study, which is filled from its records. An experiment that was moved or renamed stays the same one.

    Raises:
        ValueError: its identity has changed, or its study is lost.
    """
    folder = options.folder
    saved = read_experiment(folder)
    if options.storage is None:
        check_journal(folder)
    now = check_identity(folder, saved, options, read_plan(folder))
    own = Experiment(saved.get("id") or uuid.uuid4().hex, str(saved.get("study") or saved.get("name") or folder.name), now)
    own.code, own.machine = saved.get("code") or provenance.code(), saved.get("machine") or provenance.machine()
    own.continued = saved.get("continued", [])
    same = kept(options) == saved["options"]
    own.consents = consent(kept(options), saved.get(CONSENTS) if same else None)
    notes = _code_notes(own)
    copied = _is_copy(folder, saved)
    if copied:
        own.id = uuid.uuid4().hex
        notes.append(f"{folder} is a copy of {saved['place']}; it continues as a separate experiment.")
    if options.storage is None:
        own.study = study_in(open_storage(None, folder), {"study": own.study}, None, folder)
    elif copied:
        _own_study(options, own, saved)
    else:
        storage = open_storage(options.storage, folder)
        own.study = study_in(storage, {"study": own.study}, options.storage, folder)
        claim(storage, own, options)
    return own, notes


def check_identity(folder: Path, saved: dict[str, Any], options: Options, plan: Sequence[Recipe] | None) -> dict[str, Any]:
    """Check that an experiment is still what ``experiment.json`` says; return its identity.

    Recipes appended to the plan of an ablation or a ladder are no change: see `append`.

    Raises:
        ValueError: its identity has changed; the message says in what.
    """
    now, then = identity_of(options, plan), saved.get("identity", {})
    if plan and not options.proposes and then.get("plan") in _beginnings(plan):
        then = then | {"plan": now["plan"]}
    refuse_differences(f"{folder.name} cannot be continued", then, now, "Undo the change, or start another experiment.")
    return now


def _beginnings(plan: Sequence[Recipe]) -> set[str]:
    """Digests of the first one, two … recipes of a plan, as an identity keeps them."""
    hashes = [recipe.hash for recipe in plan]
    return {digest(hashes[:count]) for count in range(1, len(hashes) + 1)}


def append(options: Options, recipes: Sequence[Recipe]) -> Options:
    """Append recipes to an experiment's plan; return the options with which it runs them, too.

    The plan's file is replaced in one step. If the process dies right after it, a resume continues the experiment as it was:
    appended recipes run only if ``trials`` says so.

    Args:
        options: of the experiment.
        recipes: those that the plan has already are left out.

    Raises:
        ValueError: the experiment runs no plan, nothing is new, its identity has changed, or it is running.
    """
    folder, plan = options.folder, read_plan(options.folder)
    if plan is None or options.proposes:
        raise ValueError(f"{folder.name} does not run a plan, so nothing can be appended to it. Extend it with --trials.")
    known = {recipe.hash for recipe in plan}
    fresh = {recipe.hash: recipe.check() for recipe in recipes if recipe.hash not in known}
    if not fresh:
        raise ValueError(f"{folder.name} has all of these runs in its plan already. `{options.resume_command}` continues it.")
    check_identity(folder, read_experiment(folder), options, plan)
    with alone(folder):
        if Presence.any_alive(folder):
            raise ValueError(f"{folder.name} is running. Wait for its end, or interrupt it, and extend it then.")
        whole = [*plan, *fresh.values()]
        _write_plan(folder, whole)
    return dataclasses.replace(options, trials=len(whole))


def _write_plan(folder: Path, plan: Sequence[Recipe]) -> None:
    write_atomic(folder / PLAN, json.dumps([recipe.to_json() for recipe in plan]).encode())


def _code_notes(own: Experiment) -> list[str]:
    """A note if the code has changed. The stage cache keeps the results of different code apart."""
    now = provenance.code()
    before = own.continued[-1]["code"] if own.continued else own.code
    if all(before.get(key) == now.get(key) for key in ("version", "commit", "diff_hash")):
        return []
    own.continued = [*own.continued, {"at": time.time(), "code": now, "machine": provenance.machine()}]
    return [f"The code has changed: {provenance.in_words(before)} before, {provenance.in_words(now)} now."]


def _is_copy(folder: Path, saved: dict[str, Any]) -> bool:
    """Whether the original still exists at the path where the experiment last ran."""
    place = saved.get("place")
    if not place or Path(place) == folder:
        return False
    try:
        original = Path(place)
        if not original.is_dir() or original.samefile(folder):
            return False
        return bool(saved.get("id")) and read_experiment(original).get("id") == saved["id"]
    except (ValueError, OSError):
        return False


def _own_study(options: Options, own: Experiment, saved: dict[str, Any]) -> None:
    """Create a new study for a copy in a shared storage; the original's study is not touched."""
    try:
        rebuild = importlib.import_module("golflab.search.upkeep.repair").rebuild
    except ImportError:
        raise ValueError(f"{options.folder} is a copy that shares a storage; {repair(options.folder)}") from None
    own.study = f"{own.study}-{own.id[:6]}"
    write_experiment(options.folder, saved | own.json(options))
    claim(open_storage(options.storage, options.folder), own, options, new=True)
    rebuild(options.folder, storage=options.storage)


def check_study(options: Options, own: Experiment) -> None:
    """Check, before anything is started, that a shared storage has no other experiment's study of this name.

    Raises:
        ValueError: it has one (the message says what differs), or the storage cannot be opened.
    """
    if options.storage is None:
        return
    storage = open_storage(options.storage, options.folder)
    if own.study in optuna.get_all_study_names(storage):
        _refuse_others(storage, own, options)


def _refuse_others(storage: BaseStorage, own: Experiment, options: Options) -> None:
    """Raise a ValueError if a study belongs to another experiment, or to none that is known."""
    where = f"The study {own.study!r} in {masked(options.storage or '')}"
    other = optuna.load_study(study_name=own.study, storage=storage).user_attrs.get(OWNER)
    if other is None:
        raise ValueError(f"{where} exists already and belongs to no known experiment. {ANOTHER}")
    if other["id"] != own.id:
        where += f" belongs to the experiment in {other['place']}"
        refuse_differences(where, other["identity"], own.identity, ANOTHER)
        raise ValueError(f"{where}: `{command('resume', Path(other['place']))}` continues it. {ANOTHER}")


def claim(storage: BaseStorage, own: Experiment, options: Options, new: bool = False) -> None:
    """Mark a study in a shared storage as this experiment's.

    Raises:
        ValueError: it belongs to another experiment; the message says what differs.
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
    """The recipes of an experiment that runs a plan; None if it has none.

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
