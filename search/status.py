"""How a search stands, read from its ledger and records without touching them; and the dashboards over the same storage."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from rich.console import Console

from model.record import records_in
from search.plain import say
from search.pruner import agreements
from search.running import running_state
from search.storage import Presence, open_storage, read_experiment


def status_of(folder: Path) -> dict[str, Any]:
    """State, counts, best, running and failed trials of an experiment, as JSON values.

    Raises:
        ValueError: there is no such experiment.
    """
    told = read_experiment(folder)
    options = told["options"]
    study = optuna.load_study(study_name=told["name"], storage=open_storage(options.get("storage"), folder))
    trials = [t for t in study.get_trials(deepcopy=False) if not t.user_attrs.get("withdrawn")]
    records = {record.recipe: record for _, record in records_in(folder / "trials")}
    complete = [
        r for r in records.values() if r.state == "complete" and r.bpb is not None and (r.bytes or 0) <= r.spec["limit"]
    ]
    best = min(complete, key=lambda r: r.bpb or 0.0, default=None)
    driven = Presence.any_alive(folder)
    failed = [r for r in records.values() if r.state == "failed"]
    lost = [t for t in trials if t.state == TrialState.FAIL and t.user_attrs.get("recipe") not in records]
    return {
        "name": told["name"],
        "state": "running" if driven else ("interrupted" if told["state"] == "running" else told["state"]),
        "reason": told.get("reason", ""),
        "trials": options.get("trials"),
        "counts": told["counts"],
        "spent": told.get("spent", {}),
        "rungs": [asdict(rung) | {"reliable": rung.reliable, "words": str(rung)} for rung in agreements(trials)],
        "budget": options.get("budget", ""),
        "seconds": told["seconds"] + (time.time() - told["updated"] if driven else 0.0),
        "best": None if best is None else best.summary() | {"techniques": sorted(best.spec["techniques"])},
        "running": [_running(t) | (_doing(folder, t) if driven else {}) for t in trials if t.state == TrialState.RUNNING],
        "failed": [{"recipe": r.recipe, "reason": r.reason, "log": str(_log(folder, r.recipe))} for r in failed]
        + [{"recipe": "", "trial": t.number, "reason": t.user_attrs.get("reason", ""), "log": ""} for t in lost],
        "resume": told["resume"],
    }


def recipe_numbered(folder: Path, number: int) -> str:
    """The hash of the recipe that a trial of an experiment runs.

    Raises:
        ValueError: there is no such experiment, or no such trial.
    """
    told = read_experiment(folder)
    study = optuna.load_study(study_name=told["name"], storage=open_storage(told["options"].get("storage"), folder))
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


def serve_dashboard(folder: Path, host: str, port: int, console: Console) -> None:
    """Serve optuna-dashboard over the experiment's storage until Ctrl-C, after writing its curves for TensorBoard.

    Raises:
        ValueError: there is no such experiment, or optuna-dashboard is not installed.
    """
    told = read_experiment(folder)
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise ValueError("optuna-dashboard is not installed: `pip install golflab[dashboard]`.") from None
    curves = write_curves(folder)
    say(console, f"http://{host}:{port}/dashboard/   curves: tensorboard --logdir {curves}")
    run_server(open_storage(told["options"].get("storage"), folder), host=host, port=port)


def write_curves(folder: Path) -> Path:
    """Write every record's curve as TensorBoard events; return the folder that holds them."""
    from tensorboardX import SummaryWriter

    target = folder / "tensorboard"
    for path, record in records_in(folder / "trials"):
        if (target / path.name).exists():
            continue
        with SummaryWriter(str(target / path.name), write_to_disk=True) as writer:
            for point in record.curve:
                for key in ("loss", "bpb", "bytes"):
                    if point.get(key) is not None:
                        writer.add_scalar(key, point[key], int(point["step"]))
    return target
