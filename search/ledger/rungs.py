"""Rungs: what running trials report on the way, and which of them must stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.trial import FrozenTrial

from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.model.submission.script import code_bytes
from golflab.search.ledger.book import Book
from golflab.search.ledger.counts import OVER, SHORTER
from golflab.search.ledger.pruners import BYTES, DOCUMENTS, PROGRESS, ByteBudgetPruner

BYTES_AT = "bytes_at"  # user attribute: step (as text) -> bytes measured there last


class Rungs:
    """Enters rungs into the study and asks the pruners about them.

    Args:
        study: the study.
        book: its trials, for reading and writing.
        limit: bytes that an artifact may have.
        pruner: asked about the score of every trial that is not too large; None stops nothing for its score.
        halving: whether trials run complete shorter schedules first; then only the scores of these are entered.
        bound: whether the byte limit holds for a trial.
    """

    def __init__(
        self,
        study: optuna.Study,
        book: Book,
        limit: int,
        pruner: BasePruner | None,
        halving: bool,
        bound: Callable[[FrozenTrial], bool],
    ) -> None:
        self._study, self._book, self._limit, self._halving, self._bound = study, book, limit, halving, bound
        self._by_bytes, self._by_score = ByteBudgetPruner(limit), pruner or NopPruner()
        self._reasons: dict[int, str] = {}
        self._last: dict[int, dict[str, Any]] = {}

    def report(self, number: int, rung: dict[str, Any]) -> str | None:
        """Enter a rung of a trial; return why the trial must stop now, or None."""
        before = self._book.frozen(number)
        if before.state.is_finished():  # it runs only to replace its damaged record
            return None
        trial, self._last[number] = self._book.trial(number), rung
        scored = self._enter(trial, before, rung)
        frozen = self._book.frozen(number)
        if self._by_bytes.too_large(frozen) and self._bound(frozen):
            over = frozen.user_attrs[BYTES][-1] - self._limit
            trial.set_constraint(OVER, over)
            self._reasons[number] = f"{over:,} bytes over the limit at {rung.get('progress', 0):.0%} of the run"
        elif scored and self._by_score.prune(self._study, frozen):
            at = f"after a complete schedule of {rung['tokens']:,} tokens" if rung.get("complete") else "by its score"
            self._reasons[number] = f"stopped {at}, at {rung.get('progress', 0):.0%} of the run: {rung['bpb']:.4f} bpb"
        if number in self._reasons and rung.get("complete"):
            trial.set_user_attr("trained", False)  # its whole schedule was never begun
        return self._reasons.get(number)

    def _enter(self, trial: optuna.Trial, before: FrozenTrial, rung: dict[str, Any]) -> bool:
        """Write a rung's score and bytes into the study; return whether its score counts."""
        step, attributes = int(rung["step"]), before.user_attrs
        scored = rung.get("bpb") is not None and bool(rung.get("complete")) == self._halving
        if scored and step not in before.intermediate_values:
            if rung.get("documents"):
                trial.set_user_attr(DOCUMENTS, attributes.get(DOCUMENTS, {}) | {str(step): rung["documents"]})
            if rung.get("trainings"):
                spent = attributes.get(SHORTER, {"trainings": 0.0, "seconds": 0.0})
                trial.set_user_attr(SHORTER, {key: spent[key] + rung[key] for key in spent})
            trial.report(float(rung["bpb"]), step)
        if rung.get("bytes") is not None:
            trial.set_user_attr(BYTES, [*attributes.get(BYTES, []), int(rung["bytes"])])
            trial.set_user_attr(BYTES_AT, attributes.get(BYTES_AT, {}) | {str(step): int(rung["bytes"])})
            trial.set_user_attr(PROGRESS, float(rung.get("progress", 0.0)))
        return scored

    def stopped(self, number: int) -> str | None:
        """Why a pruner stopped this trial, or None if none did."""
        return self._reasons.get(number)

    def completed(self, number: int, record: Record) -> Record:
        """The record of a stopped trial, with what its last rung reported."""
        rung = self._last.get(number, {})
        record.seconds, record.tokens = rung.get("seconds", 0.0), rung.get("tokens", 0)
        record.curve = self.curve(number)
        if "trained" in rung:  # it had ended, and its artifact was too large
            record.trained, record.bytes = rung["trained"], rung["bytes"]
            record.code_bytes = code_bytes(Recipe.from_json(record.spec))
        return record

    def curve(self, number: int) -> list[dict[str, float]]:
        """The rungs a trial reported: step, bpb and, where they were measured, bytes."""
        frozen = self._book.frozen(number)
        measured = frozen.user_attrs.get(BYTES_AT, {})
        return [
            {"step": step, "bpb": value} | ({"bytes": measured[str(step)]} if str(step) in measured else {})
            for step, value in sorted(frozen.intermediate_values.items())
        ]
