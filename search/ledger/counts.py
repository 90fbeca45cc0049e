"""Sums over a study's trials: how many ended in each state, what they cost, and how well rungs predict the final score."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from golflab.search.ledger.pruners import Agreement, Score, correlated, scores_of

OVER = "bytes_over_limit"  # the constraint's name in the study
INVALID = "invalid"  # user attribute: why enqueued parameters cannot be run; such a trial never started
REFUSED_EXAMPLE = "refused"  # user attribute: recipe and forecast of the first combination refused for its size on the way
INSTEAD_OF = "instead_of"  # user attribute: the number of the failed trial whose recipe this one runs again
SHORTER = "shorter"  # user attribute: cost of a trial's shorter schedules, in trainings and seconds


def counts(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Combinations by what became of them: asked for, refused because they cannot fit, and trials by their state.

    Returns:
        asked, not_fitting; trained (not found in the stage cache); over_limit (stopped because of their measured bytes; these
        are among the pruned); pruned, failed, complete.
    """
    return _counts(standing(trials))


def standing(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count: not withdrawn, and not failed and then run again."""
    replaced = {t.user_attrs.get(INSTEAD_OF) for t in trials}
    return [t for t in trials if not t.user_attrs.get("withdrawn") and t.number not in replaced]


def _counts(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    trials = [t for t in trials if not t.user_attrs.get("withdrawn")]
    started = [t for t in trials if not _closed_at_once(t)]
    return {
        "asked": sum(t.user_attrs.get("asked", 1) for t in trials),
        "not_fitting": sum(t.user_attrs.get("not_fitting", 0) for t in trials),
        "trained": sum(bool(t.user_attrs.get("trained")) for t in trials),
        "over_limit": sum(t.state == TrialState.PRUNED and t.constraints.get(OVER, 0) > 0 for t in started),
        "pruned": sum(t.state == TrialState.PRUNED for t in started),
        "failed": sum(t.state == TrialState.FAIL for t in trials),
        "complete": sum(t.state == TrialState.COMPLETE for t in trials),
    }


def spent(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Trainings started (a shorter schedule is a fraction of one), and seconds of training of the finished runs."""
    trials = [t for t in trials if not t.user_attrs.get("withdrawn") and t.state != TrialState.WAITING]
    whole = {
        "trainings": sum(t.user_attrs.get("trained", t.state == TrialState.RUNNING and _trains(t)) for t in trials),
        "seconds": sum(t.user_attrs.get("seconds") or 0.0 for t in trials if t.user_attrs.get("trained")),
    }
    return {key: whole[key] + sum(t.user_attrs.get(SHORTER, {}).get(key, 0.0) for t in trials) for key in whole}


def counted(trials: Sequence[FrozenTrial]) -> int:
    """Trials that count towards the target: all but withdrawn, waiting and re-run ones, and those that never started."""
    return _counted(standing(trials))


def _counted(trials: Sequence[FrozenTrial]) -> int:
    return sum(t.state != TrialState.WAITING and not t.user_attrs.get("withdrawn") and not _closed_at_once(t) for t in trials)


def _trains(trial: FrozenTrial) -> bool:
    """Whether a running trial trains. A variant does not: it finds its training in the stage cache."""
    return trial.user_attrs.get("source") != "variant"


def _closed_at_once(trial: FrozenTrial) -> bool:
    """Whether a trial never started: it was asked for by name, and is invalid or cannot fit."""
    attributes = trial.user_attrs
    if INVALID in attributes or isinstance(attributes.get(REFUSED_EXAMPLE), str):  # as text: of versions before 2026-11-26
        return True
    return trial.state == TrialState.PRUNED and attributes.get("asked") == 1 and attributes.get("not_fitting") == 1


class Totals:
    """The same sums, kept up to date: a finished trial never changes and is added once; the others are added each time.

    If a failed trial is run again, it is subtracted from the counts; its cost stays.

    Call `update` with all trials before using any other method.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._sums = _sums([])
        self._first: dict[str, int] = {}
        self._scores: dict[int, list[Score]] = {}
        self._rungs: dict[int, tuple[int, Agreement | None]] = {}
        self.unfinished: list[FrozenTrial] = []

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Add what is new. ``trials`` are all trials of the study in the order of their numbers."""
        new = trials[self._seen :]
        fresh = [*(trials[t.number] for t in self.unfinished), *new]
        again = [trials[t.user_attrs[INSTEAD_OF]] for t in new if INSTEAD_OF in t.user_attrs]
        self._seen = len(trials)
        self.unfinished = [t for t in fresh if not t.state.is_finished()]
        if done := [t for t in fresh if t.state.is_finished()]:
            self._sums = _added(self._sums, _sums(done))
        for trial in again:
            less = _sums([trial]) | {"spent": dict.fromkeys(self._sums["spent"], 0.0)}
            self._sums = _added(self._sums, {name: {k: -v for k, v in sums.items()} for name, sums in less.items()})
            self._first.pop(trial.user_attrs.get("recipe", ""), None)
        replaced = {t.number for t in again}
        for trial in done:
            if (name := trial.user_attrs.get("recipe")) and trial.number not in replaced:
                self._first.setdefault(name, trial.number)
                self._first[name] = min(self._first[name], trial.number)
            for step, score in scores_of(trial):
                self._scores.setdefault(step, []).append(score)

    def counts(self) -> dict[str, int]:
        """See `counts`."""
        return {key: int(value) for key, value in self._now()["counts"].items()}

    def spent(self) -> dict[str, float]:
        """See `spent`."""
        return self._now()["spent"]

    def counted(self) -> int:
        """See `counted`."""
        return int(self._now()["counted"]["trials"])

    def first(self, recipe: str) -> int | None:
        """The lowest number of a trial with this recipe."""
        numbers = [t.number for t in self.unfinished if t.user_attrs.get("recipe") == recipe]
        return min([*numbers, *([self._first[recipe]] if recipe in self._first else [])], default=None)

    def rungs(self) -> list[Agreement]:
        """See `pruners.agreements`. A correlation is computed again when there are 2 % more trials."""
        for step, scores in self._scores.items():
            known = self._rungs.get(step, (0, None))[0]
            if len(scores) >= max(known + 1, 1.02 * known):
                self._rungs[step] = len(scores), correlated(step, scores)
        return [found for _, (_, found) in sorted(self._rungs.items()) if found is not None]

    def _now(self) -> dict[str, dict[str, float]]:
        return _added(self._sums, _sums(self.unfinished))


def _sums(trials: Sequence[FrozenTrial]) -> dict[str, dict[str, float]]:
    return {"counts": dict(_counts(trials)), "spent": spent(trials), "counted": {"trials": _counted(trials)}}


def _added(some: dict[str, dict[str, float]], more: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {name: {key: value + more[name][key] for key, value in sums.items()} for name, sums in some.items()}
