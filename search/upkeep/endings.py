"""Trials of a study, rebuilt from their records."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from golflab.model.recipe import Recipe
from golflab.model.record import Record, read_json
from golflab.search.experiment.folder import read_plan
from golflab.search.experiment.options import Options
from golflab.search.ledger.counts import OVER
from golflab.search.ledger.problem import described


class Endings:
    """Makes a study's trials from the files in an experiment's folder.

    Args:
        folder: of the experiment.
        options: of the experiment; its space gives the parameters of a recipe.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self._folder, self._options = folder, options
        self._space = options.load_space()
        try:
            self._plan = {recipe.hash for recipe in read_plan(folder) or ()}
        except ValueError:
            self._plan = set()
        self._binding = options.binds and not options.proposes

    def ended(self, record: Record, folder: Path, before: FrozenTrial | None = None) -> FrozenTrial:
        """The trial of a record, as `golflab.search.ledger.ledger.Ledger.finish` would have entered it.

        Args:
            record: of the trial.
            folder: of the record.
            before: the trial in the journal, or None.
        """
        attrs = (dict(before.user_attrs) if before is not None else {}) | self.facts(record)
        attrs.pop("lost", None)
        state, reason = self._state(record, attrs.get("source"))
        attrs |= {"reason": reason} if reason else {}
        over = None if record.bytes is None else record.bytes - self._space.preset.limit
        params, rules = self._described(record, before)
        steps = dict(before.intermediate_values) if before is not None else {}
        trial = create_trial(
            state=state,
            value=record.bpb if state == TrialState.COMPLETE else None,
            params=params,
            distributions=rules,
            user_attrs=attrs,
            intermediate_values=steps or self._rungs(record),
            constraints=None if over is None else {OVER: over},
        )
        written = datetime.fromtimestamp((folder / "record.json").stat().st_mtime)
        trial.datetime_start = _local(record.started) or (before.datetime_start if before is not None else None) or written
        trial.datetime_complete = _local(record.ended) or written
        return trial

    def facts(self, record: Record) -> dict[str, Any]:
        """The user attributes of a trial that its record has."""
        attrs = record.proposed | {"recipe": record.recipe, "trained": record.trained, "seconds": record.seconds}
        return ({"source": "plan"} if record.recipe in self._plan else {}) | attrs

    def _state(self, record: Record, source: Any) -> tuple[TrialState, str]:
        bound = self._binding or source != "plan"
        over = record.bytes is not None and record.bytes > self._space.preset.limit and bound
        if record.state == "complete" and not over:
            return TrialState.COMPLETE, record.reason
        if record.state == "failed":
            return TrialState.FAIL, record.reason
        return TrialState.PRUNED, record.reason or f"{record.bytes or 0:,} bytes do not fit"

    def _described(self, record: Record, before: FrozenTrial | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The parameters of a recipe; none in an ablation, which proposes nothing, and none if the space lacks the recipe."""
        if before is not None and before.params:
            return before.params, before.distributions
        try:
            return self._params(Recipe.from_json(record.spec))
        except ValueError:  # it has a technique that no longer exists
            return {}, {}

    def _params(self, recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
        if not self._options.proposes:
            return {}, {}
        return described(self._space, recipe)

    def _rungs(self, record: Record) -> dict[int, float]:
        """Scores at rungs; none with shorter schedules, because the record does not say which schedules were complete."""
        if self._options.halving is not None:
            return {}
        return {int(p["step"]): float(p["bpb"]) for p in record.curve if p.get("bpb") is not None}

    def begun(self, known: Collection[Any]) -> Iterator[FrozenTrial]:
        """Trials that had started and have neither a record nor a line in the journal: they continue from their checkpoints.

        A plan's recipes are left out, because they are run anyway.
        """
        for path in sorted(self._folder.glob("trials/*/recipe.json"), key=lambda p: p.lstat().st_mtime):
            name = path.parent.name
            if name in known or name in self._plan:
                continue
            with contextlib.suppress(ValueError, OSError):
                recipe = Recipe.from_json(read_json(path))
                if recipe.hash == name:
                    params, rules = self._params(recipe)
                    attrs = {"recipe": name, "asked": 1, "not_fitting": 0, "source": "record", "driver": ""}
                    yield create_trial(state=TrialState.RUNNING, params=params, distributions=rules, user_attrs=attrs)


def placeholder() -> FrozenTrial:
    """A trial about which nothing is known: it keeps its number and does not count."""
    attrs = {"withdrawn": True, "asked": 0, "reason": "lost with the journal"}
    return create_trial(state=TrialState.FAIL, user_attrs=attrs)


def _local(text: str) -> datetime | None:
    return datetime.fromisoformat(text).astimezone().replace(tzinfo=None) if text else None
