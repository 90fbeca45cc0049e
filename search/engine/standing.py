"""What a search may spend, and its progress: what is done and spent over all resumes, and how long it will still take."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState

from golflab.model.record import Record

if TYPE_CHECKING:
    from golflab.search.ledger.ledger import Ledger

UNBOUNDED = 10_000  # number of trials of a search that only its budget limits
ENOUGH = 2  # trials that this driver must have finished before its own pace is used instead of that of all resumes


@dataclass(frozen=True)
class Budget:
    """A limit on what a search may spend, besides its number of trials.

    Attributes:
        seconds: wall time, over all resumes.
        trainings: runs that train; runs that reuse a training are free.
        gpu_seconds: GPUs of a trial times its training seconds, summed.
    """

    seconds: float = math.inf
    trainings: float = math.inf
    gpu_seconds: float = math.inf

    @staticmethod
    def parse(text: str) -> Budget:
        """Read ``2h``, ``90m``, ``300s``, ``50trainings`` or ``12gpuh``; several may be joined by commas.

        Raises:
            ValueError: the text is none of these.
        """
        found: dict[str, float] = {}
        for part in filter(None, text.replace(" ", "").split(",")):
            match = re.fullmatch(r"(\d+(?:\.\d+)?)(h|m|s|trainings?|gpuh)", part)
            if match is None or float(match[1]) <= 0:
                raise ValueError(f"budget={text!r} must read like 2h, 90m, 300s, 50trainings or 12gpuh.")
            amount, unit = float(match[1]), match[2]
            key = "trainings" if unit.startswith("training") else "gpu_seconds" if unit == "gpuh" else "seconds"
            found[key] = amount * {"h": 3600, "m": 60, "gpuh": 3600}.get(unit, 1)
        return Budget(**found)


@dataclass(frozen=True)
class Standing:
    """The progress of a search.

    Attributes:
        done: trials that have ended.
        target: trials wanted in all; None if only the budget limits them.
        seconds: wall time, over all resumes.
        spent: trainings and seconds of training: `golflab.search.ledger.counts.spent`.
        budget: what it may spend.
        gpus: GPUs of each trial.
        left: estimated seconds until the end; None while unknown.
        bound: what will end the search: ``trials``, or the budget of ``time``, ``trainings`` or ``GPU hours``.
    """

    done: int = 0
    target: int | None = None
    seconds: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    gpus: float = 0.0
    left: float | None = None
    bound: str = "trials"


@dataclass(frozen=True)
class Opening:
    """The state of an experiment when a driver starts.

    Attributes:
        name: of the experiment.
        folder: of the experiment.
        resume: the command that continues it.
        budget: as the user wrote it.
        standing: its progress.
        finished: numbers and records of the trials that ended last, and of the best one, in the order in which they ended.
    """

    name: str
    folder: Path
    resume: str
    budget: str
    standing: Standing
    finished: Sequence[tuple[int, Record]] = ()


def standing_of(
    ledger: Ledger,
    budget: Budget,
    seconds: float,
    gpus: float,
    here: tuple[int, float] = (0, 0.0),
    planned: float | None = None,
) -> Standing:
    """The progress of a search.

    Args:
        ledger: of the search.
        budget: what it may spend.
        seconds: wall time, over all resumes.
        gpus: GPUs of each trial.
        here: trials that this driver has finished, and the seconds since it began.
        planned: seconds that the rest of a plan will take, where its runs are known; None: trials are taken to be alike.
    """
    counts, spent = ledger.counts(), ledger.spent()
    done = counts["complete"] + counts["pruned"] + counts["failed"]
    target = ledger.target if ledger.target < UNBOUNDED else None
    left = _left(done, target, counts["trained"], spent["seconds"] * gpus, seconds, budget, here)
    if planned is not None and "trials" in left:
        left["trials"] = planned
    bound, soonest = min(left.items(), key=lambda item: item[1], default=("trials", None))
    return Standing(done, target, seconds, spent, budget, gpus, soonest, bound)


def _left(
    done: int,
    target: int | None,
    trained: int,
    gpu_seconds: float,
    seconds: float,
    budget: Budget,
    here: tuple[int, float],
) -> dict[str, float]:
    """Estimated seconds until each limit is reached, where they can be estimated."""
    pace = here[0] / here[1] if here[0] >= ENOUGH and here[1] > 0 else done / seconds if seconds > 0 else 0.0
    ahead: dict[str, tuple[float, float]] = {"trials": (target - done, pace)} if target is not None else {}
    if seconds > 0:
        ahead["trainings"] = (budget.trainings - trained, trained / seconds)
        ahead["GPU hours"] = (budget.gpu_seconds - gpu_seconds, gpu_seconds / seconds)
    ahead["time"] = (budget.seconds - seconds, 1.0)
    return {bound: max(0.0, amount) / rate for bound, (amount, rate) in ahead.items() if rate > 0 and math.isfinite(amount)}


def finished_last(ledger: Ledger, count: int) -> list[tuple[int, Record]]:
    """Numbers and records of the trials that ended last, and of the best one, in the order in which they ended."""
    trials = [t for t in ledger.study.get_trials(deepcopy=False) if t.datetime_complete and "recipe" in t.user_attrs]
    ended = sorted((t for t in trials if not t.user_attrs.get("withdrawn")), key=lambda t: t.datetime_complete)  # type: ignore[arg-type,return-value]
    complete = [t for t in ended if t.state == TrialState.COMPLETE and t.value is not None]
    best = min(complete, key=lambda t: t.value or 0.0, default=None)
    kept = ended[-count:]
    if best is not None and best not in kept:
        kept.insert(0, best)
    read = [(t.number, Record.read(_folder(ledger, t))) for t in kept]
    return [(number, record) for number, record in read if record is not None]


def _folder(ledger: Ledger, trial: FrozenTrial) -> Path:
    return ledger.trial_folder(trial.user_attrs["recipe"])
