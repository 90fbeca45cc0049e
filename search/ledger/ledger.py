"""The ledger: an Optuna study in a persistent storage, and the records on disk.

There is no other state. The study holds what was proposed and how it ended. A record, once written, is the truth about a
finished run; what the study has missed is entered when a driver starts (`Ledger.reconcile`). A trial is identified by its
recipe's hash. Two drivers may share one study: the storage hands out the numbers, and of two trials with one recipe the one
with the larger number is withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.search.ledger.book import Book, damaged, noted, set_aside
from golflab.search.ledger.counts import INVALID, OVER, REFUSED_EXAMPLE
from golflab.search.ledger.drivers import Presence
from golflab.search.ledger.entries import Entries
from golflab.search.ledger.problem import RecipeProblem, described
from golflab.search.ledger.pruners import Agreement, ByteBudgetPruner
from golflab.search.ledger.requested import Plan, completed
from golflab.search.ledger.rungs import Rungs
from golflab.search.sampler.fitting import FittingSampler
from golflab.search.sampler.proposal import Proposal
from golflab.search.sampler.selection import REFUSED

RUNNING, WAITING, COMPLETE = TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE
PRUNED, FAIL = TrialState.PRUNED, TrialState.FAIL
TAUGHT = "taught"  # user attribute: what the trial taught the forecaster, so that a resume need not compute it again
MADE_AGAIN = "made_again"  # the study's user attribute: numbers of finished trials whose record was damaged


class Ledger:
    """Asks the study for proposals and tells it how they ended.

    Args:
        folder: of the experiment; records lie in ``trials/<recipe hash>``.
        name: of the study in the storage.
        storage: that keeps the study.
        problem: what is searched. Only recipes with hardly a chance to fit are refused.
        target: trials wanted in all, over all drivers and resumes.
        sampler: proposes combinations of this problem; by default one with its usual settings.
        pruner: asked about the score of every trial that is not too large; None stops nothing for its score.
        halving: whether trials run complete shorter schedules first; then only the scores of these are entered.
        plan: recipes that are run before anything is proposed.

    Attributes:
        rungs: what running trials report, and which of them must stop.
        presence: says that this driver is alive.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        storage: BaseStorage,
        problem: RecipeProblem,
        target: int,
        *,
        sampler: FittingSampler | None = None,
        pruner: BasePruner | None = None,
        halving: bool = False,
        plan: Plan | None = None,
    ) -> None:
        self.folder, self.problem, self.target = folder, problem, target
        self.sampler = sampler or FittingSampler(problem)
        self._plan = plan or Plan()
        self.study = optuna.create_study(
            study_name=name,
            storage=storage,
            sampler=self.sampler,
            pruner=ByteBudgetPruner(problem.limit, pruner),
            direction="minimize",
            load_if_exists=True,
        )
        self._book = Book(self.study, storage, folder / "trials")
        self.rungs = Rungs(self.study, self._book, problem.limit, pruner, halving, self._bound)
        self.presence = Presence(folder)
        self._entries = Entries(self.study, self._book, folder, problem, self._plan, self.presence.name)

    # ------------------------------------------------------------------ ask

    def propose(self) -> Proposal | None:
        """Return the next trial to run, or None when the study holds as many as were wanted."""
        while True:
            if self._book.totals().counted() >= self.target:
                return None
            proposal = self._waiting() or self._fresh()
            if proposal is None or not self._entries.withdraw_if_surplus(proposal, self.target):
                return proposal

    def orphans(self) -> list[Proposal]:
        """Adopt the running trials whose driver is gone: they keep their number and continue from their checkpoints."""
        found = []
        with self.presence.alone():  # or two drivers that start at the same time would both adopt a trial
            for trial in self._book.unfinished(RUNNING):
                if self.presence.alive(trial.user_attrs.get("driver", "")) or self._entries.withdraw_if_duplicate(trial):
                    continue
                if "recipe" not in trial.user_attrs:
                    if (asked := trial.system_attrs.get("fixed_params")) is not None:
                        self.study.enqueue_trial(asked)
                    self._entries.withdraw(trial.number, "its driver was gone before it had a recipe")
                    continue
                recipe, before = self._entries.recipe_of(trial), trial.user_attrs.get("driver")
                self._book.trial(trial.number).set_user_attr("driver", self.presence.name)
                if before:
                    self._entries.note(trial.number, "its driver was gone: continued by another")
                found.append(self._entries.prepare(trial.number, recipe))
        return found

    def damaged(self) -> list[Proposal]:
        """Hand out the finished trials whose record can no longer be read: most of their work is in the stage cache."""
        found = []
        with self.presence.alone():
            for trial in self._book.trials():
                folder = self._book.where(trial)
                if trial.state.is_finished() and set_aside(folder, self._book.readable):
                    before = self.study.user_attrs.get(MADE_AGAIN, [])  # a finished trial takes no more attributes
                    self.study.set_user_attr(MADE_AGAIN, [*before, trial.number])
                    found.append(self._entries.prepare(trial.number, self._entries.recipe_of(trial)))
        return found

    def lost(self, number: int) -> None:
        """Note that a trial's worker was lost, and that the trial is handed out again."""
        self._entries.note(number, "its worker was lost: handed out again")

    def _fresh(self) -> Proposal | None:
        """Let the sampler propose, and enter the whole trial into the study in one write."""
        trials = self._book.trials()
        if self._plan.recipes is not None:
            planned = self._next_of_plan(self._plan.recipes, trials)
            if planned is not None or not self._plan.proposes:
                return planned
        found = self.sampler.propose(trials, len(trials))
        if found.params is None:
            return None
        recipe = self.problem.recipes.recipe(found.params)
        attributes = {"asked": found.asked, "not_fitting": found.dropped, "source": found.source}
        if found.example is not None:
            refused = self.problem.recipes.recipe(found.example)
            attributes[REFUSED_EXAMPLE] = {"recipe": refused.to_json(), "bytes": self.problem.forecast(refused)}
        return self._entries.enter(recipe, found.params, dict(self.problem.space), attributes)

    def _next_of_plan(self, plan: Sequence[Recipe], trials: list[FrozenTrial]) -> Proposal | None:
        """The plan's next recipe; one that cannot fit is closed at once and counted."""
        known = {t.user_attrs.get("recipe") for t in trials}
        for recipe in {recipe.hash: recipe for recipe in plan if recipe.hash not in known}.values():
            fits = not self._plan.bound or self.problem.chance_that_fits(recipe) >= REFUSED
            params, distributions = described(self.problem.recipes, recipe) if self._plan.proposes else ({}, {})
            attributes = {"asked": 1, "not_fitting": int(not fits), "source": "plan"}
            proposal = self._entries.enter(recipe, params, distributions, attributes)
            if fits:
                return proposal
            self._entries.refuse(proposal.number, recipe)
        return None

    def _bound(self, trial: FrozenTrial) -> bool:
        """Whether the byte limit holds for a trial; for a plan's trials `Plan.bound` decides."""
        return self._plan.bound or trial.user_attrs.get("source") != "plan"

    def enqueue(self, params: dict[str, Any]) -> None:
        """Ask for a combination before anything else is proposed; if it cannot fit, it is refused and counted."""
        self.study.enqueue_trial(params)

    def _waiting(self) -> Proposal | None:
        """Start a trial that a user enqueued (from the dashboard, say); one that is invalid or cannot fit is closed at once."""
        while self._book.unfinished(WAITING):
            with self.presence.alone():  # or another driver that starts now would adopt it
                trial = self.study.ask()
                trial.set_user_attr("driver", self.presence.name)
            try:
                asked = self._book.frozen(trial.number).system_attrs.get("fixed_params", {})
                recipe = self.problem.recipes.recipe(completed(trial, asked, self.problem.space))
                fits = self.problem.chance_that_fits(recipe) >= REFUSED
            except ValueError as error:
                trial.set_user_attr(INVALID, str(error))
                self._book.close(trial.number, FAIL, str(error))
                continue
            for key, value in {"recipe": recipe.hash, "asked": 1, "not_fitting": int(not fits)}.items():
                trial.set_user_attr(key, value)
            if fits:
                return self._entries.prepare(trial.number, recipe)
            trial.set_user_attr(REFUSED_EXAMPLE, {"recipe": recipe.to_json(), "bytes": self.problem.forecast(recipe)})
            self._entries.refuse(trial.number, recipe)
        return None

    # ------------------------------------------------------------------ tell

    def recorded(self, proposal: Proposal) -> bool:
        """Whether its record is on disk, and whole."""
        return Record.read(self.trial_folder(proposal.recipe.hash)) is not None

    def finish(self, number: int, record: Record) -> None:
        """Tell the study how a trial ended; the record is put on disk first if the worker could not."""
        frozen, folder = self._book.frozen(number), self.trial_folder(record.recipe)
        record.trained &= frozen.user_attrs.get("trained", True)
        kept = Record.read(folder) if frozen.state.is_finished() else None
        if kept is None or kept.trial is None:  # a finished trial keeps its record, unless it was damaged
            noted(record, frozen).save(folder)
        if frozen.state.is_finished():
            return
        trial, observation = self._book.trial(number), self.problem.learn(record)
        if observation is not None:
            trial.set_user_attr(TAUGHT, observation)
        if record.bytes is not None and OVER not in trial.constraints:
            trial.set_constraint(OVER, record.bytes - self.problem.limit)
        trial.set_user_attr("trained", record.trained)
        trial.set_user_attr("seconds", record.seconds)
        over = record.bytes is not None and record.bytes > self.problem.limit and self._bound(frozen)
        if record.state == "complete" and record.bpb is not None and not over:
            self._book.close(number, COMPLETE, record.reason, record.bpb)
        elif record.state == "complete" or record.state in ("pruned", "not_fitting"):
            self._book.close(number, PRUNED, record.reason or f"{record.bytes or 0:,} bytes do not fit")
        else:
            self._book.close(number, FAIL, record.reason)

    def _relearn(self) -> None:
        """Teach the forecaster the finished trials, as far back as it remembers, in the order of their numbers."""
        remembers = getattr(self.problem.forecaster, "remembers", None)
        finished = [t for t in self._book.trials() if t.state in (COMPLETE, PRUNED)]
        taught = [t for t in finished if TAUGHT in t.user_attrs]
        for trial in taught[-remembers:] if remembers is not None and len(taught) >= remembers else finished:
            known = self.problem.recall(trial.user_attrs.get(TAUGHT))
            if not known and (record := self._book.record(trial)) is not None:
                self.problem.learn(record)

    def reconcile(self) -> int:
        """Enter what the records on disk know and the study does not; return how many trials were closed by that."""
        self._relearn()
        closed = 0
        with self.presence.alone():
            for trial in self._book.unfinished(RUNNING):
                record = self._book.record(trial)
                if record is None or self.presence.alive(trial.user_attrs.get("driver", "")):
                    continue
                if not self._entries.withdraw_if_duplicate(trial):
                    self.finish(trial.number, record)
                    closed += 1
        return closed

    # ------------------------------------------------------------------ look

    def trial_folder(self, recipe_hash: str) -> Path:
        """Where a recipe's record, log and checkpoint lie."""
        return self._entries.folder(recipe_hash)

    def trials(self) -> list[FrozenTrial]:
        """All trials as the study has them now."""
        return self._book.trials()

    def counts(self) -> dict[str, int]:
        """Combinations and trials by what became of them: see `golflab.search.ledger.counts.counts`."""
        return self._book.totals().counts()

    def refusal(self) -> dict[str, Any] | None:
        """The first combination that was refused for its size: its recipe as JSON and its forecast bytes."""
        examples = (t.user_attrs.get(REFUSED_EXAMPLE) for t in self._book.trials())
        return next((example for example in examples if isinstance(example, dict)), None)

    def spent(self) -> dict[str, float]:
        """Trainings started and the seconds they took: see `golflab.search.ledger.counts.spent`."""
        return self._book.totals().spent()

    def agreements(self) -> list[Agreement]:
        """How well the scores at each rung rank the complete trials."""
        return self._book.totals().rungs()

    def has_orphans(self) -> bool:
        """Whether trials are running whose driver is gone, or finished trials have a damaged record."""
        orphaned = any(not self.presence.alive(t.user_attrs.get("driver", "")) for t in self._book.unfinished(RUNNING))
        return orphaned or any(damaged(self._book.where(t), self._book.readable) for t in self._finished())

    def _finished(self) -> Iterator[FrozenTrial]:
        return (t for t in self._book.trials() if t.state.is_finished() and "recipe" in t.user_attrs)

    def finished(self) -> set[str]:
        """Hashes of the recipes whose trials have ended."""
        return {trial.user_attrs["recipe"] for trial in self._finished()}

    def remaining(self) -> int:
        """Trials that are still to be started."""
        return max(0, self.target - self._book.totals().counted())

    def best(self) -> Record | None:
        """The best complete record that fits. Where the byte limit does not hold for a plan, better ones may not fit."""
        complete = [t for t in self._book.trials() if t.state == COMPLETE and t.value is not None]
        for trial in sorted(complete, key=lambda t: t.value or 0.0):
            record = self._book.record(trial)
            if record is not None and record.fits:
                return record
        return None
