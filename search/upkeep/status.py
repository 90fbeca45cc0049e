"""The state of a search, read from its study and records without changing them; and dashboards over the same storage."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from rich.console import Console

from golflab.model.record import Record, look_through, records_in
from golflab.search.engine.running import running_state
from golflab.search.experiment.consent import check_consent
from golflab.search.experiment.experiment_file import command, read_experiment
from golflab.search.ledger.book import best_of
from golflab.search.ledger.counts import counts, standing
from golflab.search.ledger.drivers import Presence
from golflab.search.ledger.pruners import agreements
from golflab.search.ledger.storage import check_journal, open_storage, study_in
from golflab.search.terminal.plain import say


def status_of(folder: Path, storage: str | None = None, trust: bool = False) -> dict[str, Any]:
    """State, counts, best, running and failed trials of an experiment, as JSON values. Nothing is written.

    Args:
        folder: of the experiment.
        storage: address of its database, if the user typed it again.
        trust: consent to the database in its file.

    Raises:
        ValueError: there is no such experiment, it is damaged, or the user has not consented to its database.
    """
    saved, study = opened(folder, storage, trust)
    options = saved["options"]
    trials = standing(study.get_trials(deepcopy=False))
    found = look_through(folder / "trials")
    records = {record.recipe: record for _, record in found.records}
    best = best_of(records.values())
    driven = Presence.any_alive(folder)
    failed = [r for r in records.values() if r.state == "failed"]
    lost = [t for t in trials if t.state == TrialState.FAIL and t.user_attrs.get("recipe") not in records]
    return {
        "name": folder.name,
        "state": "running" if driven else ("interrupted" if saved["state"] == "running" else saved["state"]),
        "reason": saved.get("reason", ""),
        "trials": options.get("trials"),
        "counts": counts([]) | saved.get("counts", {}),
        "spent": saved.get("spent", {}),
        "rungs": [asdict(rung) | {"reliable": rung.reliable, "words": str(rung)} for rung in agreements(trials)],
        "budget": options.get("budget", ""),
        "seconds": saved.get("seconds", 0.0) + (time.time() - saved.get("updated", time.time()) if driven else 0.0),
        "best": None if best is None else best.summary() | {"techniques": sorted(best.spec.get("techniques", ()))},
        "damaged": found.damaged,
        "running": [_running(t) | (_doing(folder, t) if driven else {}) for t in trials if t.state == TrialState.RUNNING],
        "failed": [{"recipe": r.recipe, "reason": r.reason, "log": str(_log(folder, r.recipe))} for r in failed]
        + [{"recipe": "", "trial": t.number, "reason": t.user_attrs.get("reason", ""), "log": ""} for t in lost],
        "resume": command("resume", folder),
    }


def opened(folder: Path, storage: str | None = None, trust: bool = False) -> tuple[dict[str, Any], optuna.Study]:
    """The content of an experiment's file, and its study for reading.

    Raises:
        ValueError: see `status_of`.
    """
    saved = read_experiment(folder)
    url = storage or saved["options"].get("storage")
    check_consent(folder, saved, ("storage",), ("storage",) if storage else (), trust)
    if url is None:
        check_journal(folder)
    found = open_storage(url, folder, reading=True)
    return saved, optuna.load_study(study_name=study_in(found, saved, url, folder), storage=found)


def trial_of(folder: Path, number: int, storage: str | None = None, trust: bool = False) -> dict[str, Any]:
    """One trial: trial, state, reason (why it was stopped or failed), recipe, bpb, bytes, folder; as JSON values.

    Raises:
        ValueError: there is no such trial; or see `status_of`.
    """
    _, study = opened(folder, storage, trust)
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise ValueError(f"trial {number}: {folder.name} has no such trial; its numbers are 0 to {len(trials) - 1}.")
    entered = trials[number].user_attrs
    place = folder / "trials" / str(entered.get("recipe", ""))
    record = Record.read(place) if "recipe" in entered else None
    state = {TrialState.FAIL: "failed"}.get(trials[number].state, trials[number].state.name.lower())
    return {
        "trial": number,
        "state": state,
        "reason": str(entered.get("reason") or (record.reason if record else "")),
        "recipe": str(entered.get("recipe", "")),
        "bpb": record.bpb if record else None,
        "bytes": record.bytes if record else None,
        "folder": str(place) if place.is_dir() and "recipe" in entered else "",
    }


def recipe_numbered(folder: Path, number: int) -> str:
    """The hash of the recipe that a trial of an experiment runs.

    Raises:
        ValueError: there is no such experiment, or no such trial.
    """
    _, study = opened(folder)
    trials = study.get_trials(deepcopy=False)
    if number >= len(trials) or "recipe" not in trials[number].user_attrs:
        raise ValueError(
            f"trial {number}: {folder.name} has no such trial with a recipe; its numbers are 0 to {len(trials) - 1}."
        )
    return str(trials[number].user_attrs["recipe"])


def _running(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    steps = sorted(trial.intermediate_values)
    began = trial.datetime_start.timestamp() if trial.datetime_start else time.time()
    return {
        "trial": trial.number,
        "recipe": trial.user_attrs.get("recipe"),
        "step": steps[-1] if steps else 0,
        "bpb": trial.intermediate_values[steps[-1]] if steps else None,
        "seconds": round(time.time() - began, 1),
    }


def _doing(folder: Path, trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return running_state(folder, trial.user_attrs.get("recipe", ""))


def _log(folder: Path, recipe: str) -> Path:
    return folder / "trials" / recipe / "log.txt"


def serve_dashboard(
    folder: Path, host: str, port: int, console: Console, storage: str | None = None, trust: bool = False
) -> None:
    """Serve optuna-dashboard over the experiment's storage until Ctrl-C, after writing its curves for TensorBoard.

    Raises:
        ValueError: see `status_of`; or optuna-dashboard is not installed.
    """
    saved, _ = opened(folder, storage, trust)
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise ValueError("optuna-dashboard is not installed: `pip install golflab[dashboard]`.") from None
    curves = write_curves(folder)
    say(console, f"http://{host}:{port}/dashboard/   curves: tensorboard --logdir {curves}")
    run_server(open_storage(storage or saved["options"].get("storage"), folder), host=host, port=port)


def write_curves(folder: Path) -> Path:
    """Write every record's curve as TensorBoard events; return the folder that holds them.

    Raises:
        ValueError: that folder is a link, or holds one.
    """
    from tensorboardX import SummaryWriter

    target = folder / "tensorboard"
    for path in (target, *target.glob("*")):
        if path.is_symlink():
            raise ValueError(f"{path} is a link, so files would be written elsewhere. Remove it.")
    for path, record in records_in(folder / "trials"):
        if (target / path.name).exists():
            continue
        with SummaryWriter(str(target / path.name), write_to_disk=True) as writer:
            for point in record.curve:
                for key in ("loss", "bpb", "bytes"):
                    if point.get(key) is not None:
                        writer.add_scalar(key, point[key], int(point["step"]))
    return target
