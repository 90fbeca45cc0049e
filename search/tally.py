"""What a study's trials add up to: how many became what, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

OVER = "bytes_over_limit"  # the constraint's name in the study
SHORTER = "shorter"  # user attribute: what a trial's shorter schedules cost, in trainings and seconds


def counts(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Combinations asked for, and of those never started because they cannot fit; trials by what became of them.

    Returns:
        asked, not_fitting; trained (here, not found in the stage cache); over_limit: stopped for the bytes they measured,
        which are among the pruned; pruned, failed, complete.
    """
    trials = [t for t in trials if not t.user_attrs.get("withdrawn")]
    started = [t for t in trials if not _closed_at_once(t)]
    return {
        "asked": sum(t.user_attrs.get("asked", 1) for t in trials),
        "not_fitting": sum(t.user_attrs.get("not_fitting", 0) for t in trials),
        "trained": sum(bool(t.user_attrs.get("trained")) for t in trials),
        "over_limit": sum(t.constraints.get(OVER, 0) > 0 for t in started),
        "pruned": sum(t.state == TrialState.PRUNED for t in started),
        "failed": sum(t.state == TrialState.FAIL for t in trials),
        "complete": sum(t.state == TrialState.COMPLETE for t in trials),
    }


def spent(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Trainings started (a shorter schedule is a fraction of one) and the seconds of training that finished runs took."""
    trials = [t for t in trials if not t.user_attrs.get("withdrawn") and t.state != TrialState.WAITING]
    whole = {
        "trainings": sum(t.user_attrs.get("trained", t.state == TrialState.RUNNING and _trains(t)) for t in trials),
        "seconds": sum(t.user_attrs.get("seconds") or 0.0 for t in trials if t.user_attrs.get("trained")),
    }
    return {key: whole[key] + sum(t.user_attrs.get(SHORTER, {}).get(key, 0.0) for t in trials) for key in whole}


def counted(trials: Sequence[FrozenTrial]) -> int:
    """Trials that count towards the target: all but the withdrawn, the waiting and what never could fit."""
    return sum(t.state != TrialState.WAITING and not t.user_attrs.get("withdrawn") and not _closed_at_once(t) for t in trials)


def _trains(trial: FrozenTrial) -> bool:
    """Whether a running trial is expected to train: a variant finds its training in the stage cache."""
    return trial.user_attrs.get("source") != "variant"


def _closed_at_once(trial: FrozenTrial) -> bool:
    """Whether a trial that was asked for by name was closed because it cannot fit: it was never started."""
    return trial.state == TrialState.PRUNED and trial.user_attrs.get("asked") == 1 and trial.user_attrs.get("not_fitting") == 1
