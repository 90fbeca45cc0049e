"""Failed trials are run again, each by a new trial that replaces it: a finished trial of a study cannot be changed."""

from __future__ import annotations

import itertools
from pathlib import Path

from optuna.trial import TrialState, create_trial

from golflab.model.record import Record
from golflab.search.ledger.counts import INSTEAD_OF, OVER, REFUSED_EXAMPLE, standing
from golflab.search.ledger.ledger import Ledger

KEPT = ("asked", "not_fitting", "source", "recipe", REFUSED_EXAMPLE)  # user attributes that the new trial has from the old one


def renew(ledger: Ledger) -> int:
    """Enter every failed trial again and set its record aside; return how many.

    The new trials replace the old ones in the counts. The cost of the old ones stays in what was spent.
    """
    renewed = 0
    with ledger.presence.alone():
        for path in ledger.folder.glob("shorter/*/record.json"):
            set_aside(path.parent)
        for trial in standing(ledger.trials()):
            if trial.state != TrialState.FAIL or "recipe" not in trial.user_attrs:
                continue
            set_aside(ledger.trial_folder(trial.user_attrs["recipe"]))
            attrs = {key: trial.user_attrs[key] for key in KEPT if key in trial.user_attrs}
            attrs |= {INSTEAD_OF: trial.number, "driver": ""}
            params, rules = trial.params, trial.distributions
            ledger.study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=rules, user_attrs=attrs))
            renewed += 1
    return renewed


def set_aside(folder: Path) -> None:
    """Keep a failed run's record as ``record.failed-1.json`` (or -2 …), so that its recipe is run again."""
    record, path = Record.read(folder), folder / "record.json"
    if record is None or record.state != "failed":
        return
    number = next(n for n in itertools.count(1) if not path.with_name(f"record.failed-{n}.json").exists())
    path.rename(path.with_name(f"record.failed-{number}.json"))


def lost_reference(ledger: Ledger, recipe: str) -> str:
    """Why an ablation has become useless: its reference exceeds the byte limit. Otherwise an empty text."""
    trial = next((t for t in ledger.trials() if t.user_attrs.get("recipe") == recipe), None)
    if trial is None or trial.state != TrialState.PRUNED or trial.constraints.get(OVER, 0) <= 0:
        return ""
    over = trial.constraints[OVER]
    return f"the reference is {over:,.0f} bytes over the limit, so nothing can be compared with it; raise --limit"
