"""The ledger: an Optuna study in a persistent storage, and the records on disk.

Nothing else is state. The study says what was proposed and how it ended; a record, once written, is the truth about a
finished run, and the study is told what it missed (`Ledger.reconcile`). A trial's identity is its recipe's hash.
Two drivers may share one study: numbers are handed out by the storage, and of two trials with one recipe, the later
number withdraws.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.model.submission.script import code_bytes
from golflab.model.system.files import write_atomic
from golflab.model.system.untrusted import read_json
from golflab.search.ledger import counts as tally
from golflab.search.ledger.book import Book
from golflab.search.ledger.counts import OVER, SHORTER
from golflab.search.ledger.enqueued import completed
from golflab.search.ledger.marks import damaged, noted, set_aside
from golflab.search.ledger.pruners import BYTES, DOCUMENTS, PROGRESS, Agreement, ByteBudgetPruner
from golflab.search.ledger.storage import Presence
from golflab.search.ledger.trainings import later, training_key
from golflab.search.sampler.fitting import FittingSampler
from golflab.search.sampler.proposal import Forecasts, Proposal, chance
from golflab.search.sampler.selection import REFUSED
from golflab.spaces.space import Space

RUNNING, WAITING, COMPLETE = TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE
PRUNED, FAIL = TrialState.PRUNED, TrialState.FAIL
BYTES_AT = "bytes_at"  # user attribute: step (as text) -> bytes measured there last
TAUGHT = "taught"  # user attribute: what the trial taught the forecaster, so that a resume need not work it out again
HISTORY = "history"  # user attribute: what happened to a trial besides its end, in order
REFUSAL = "refused"  # user attribute: the first combination refused for its size before this one: its recipe and forecast
MADE_AGAIN = "made_again"  # the study's user attribute: numbers of finished trials whose record was damaged


class Ledger:
    """Asks the study for proposals and tells it how they ended.

    Args:
        folder: the experiment's folder; records lie in ``trials/<recipe hash>``.
        name: the study's name in the storage.
        space: what varies.
        storage: where the study is kept.
        forecaster: forecasts a recipe's bytes. Only what has hardly a chance to fit is refused; what is likelier to fit is
            preferred.
        target: trials wanted in all, over all drivers and resumes.
        seed: of the proposals.
        pruner: asked about everything that fits its bytes.
        variants: trials that reuse a finished training, at most this many per training.
        halving: whether trials run shorter schedules first; then only the scores of complete schedules are entered.
        starts: recipes to try first, which the space must reach.
        screen: trials after them that are chosen to tell techniques apart; the sampler's own number by default.
        plan: recipes to run before anything is proposed.
        proposes: whether the sampler goes on when the plan is done; an ablation is its plan alone. The byte limit then binds
            what is proposed and not the plan: a design with holes could not tell its techniques apart.
        binding: whether the byte limit binds the plan of an ablation.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        space: Space,
        storage: BaseStorage,
        forecaster: Forecasts,
        target: int,
        seed: int = 0,
        pruner: BasePruner | None = None,
        halving: bool = False,
        variants: int = 0,
        starts: Iterable[Recipe] = (),
        screen: int | None = None,
        plan: Sequence[Recipe] | None = None,
        proposes: bool = True,
        binding: bool = True,
    ) -> None:
        self._proposes, self._binding = proposes, binding and not proposes
        self._plan = None if plan is None else {recipe.hash: recipe for recipe in plan}
        self.folder, self.space, self.target, self.forecaster = folder, space, target, forecaster
        self._known: dict[str, dict[str, float]] = {}
        untaught = type(forecaster)()  # the same before and after a resume
        self._pruner, self._halving = ByteBudgetPruner(space.preset.limit, pruner), halving
        self._by_score = pruner or NopPruner()
        self.sampler = FittingSampler(
            space.distributions(),
            overrun=lambda params: untaught(recipe := self.space.recipe(params))["mid"] / recipe.limit,
            chance=lambda params: self.chance(self.space.recipe(params)),
            canonical=space.canonical,
            key=lambda params: self.space.recipe(params).hash,
            owners=space.owners,
            defaults=space.params(space.preset),
            starts=[space.params(recipe) for recipe in (space.preset, *starts)],
            training=lambda params: training_key(self.space.recipe(params)),
            later=later(space),
            variants=variants,
            seed=seed,
            **({} if screen is None else {"design": screen}),
        )
        self.study = optuna.create_study(
            study_name=name,
            storage=storage,
            sampler=self.sampler,
            pruner=self._pruner,
            direction="minimize",
            load_if_exists=True,
        )
        self._book = Book(self.study, storage, folder / "trials")
        self.presence = Presence(folder)
        self._reasons: dict[int, str] = {}
        self._rungs: dict[int, dict[str, Any]] = {}

    # ------------------------------------------------------------------ ask

    def propose(self) -> Proposal | None:
        """Return the next trial to run, or None when the study holds as many as were wanted."""
        while True:
            if self._book.totals().counted() >= self.target:
                return None
            proposal = self._waiting() or self._fresh()
            if proposal is None or self._mine(proposal):
                return proposal

    def orphans(self) -> list[Proposal]:
        """Running trials whose driver is gone, adopted: they keep their number and continue from their checkpoints."""
        found = []
        with self.presence.alone():  # or two drivers that start at the same time would both adopt it
            for trial in self._book.unfinished(RUNNING):
                if self.presence.alive(trial.user_attrs.get("driver", "")) or self._withdrawn(trial):
                    continue
                if "recipe" not in trial.user_attrs:
                    self._enqueue_again(trial)
                    continue
                recipe, before = self.recipe_of(trial), trial.user_attrs.get("driver")
                self._book.trial(trial.number).set_user_attr("driver", self.presence.name)
                if before:
                    self._note(trial.number, "its driver was gone: continued by another")
                found.append(self._prepare(trial.number, recipe))
        return found

    def damaged(self) -> list[Proposal]:
        """Finished trials whose record can no longer be read: they are made again, mostly from the stage cache."""
        found = []
        with self.presence.alone():
            for trial in self._book.trials():
                folder = self._book.where(trial)
                if trial.state.is_finished() and set_aside(folder, self._book.readable):
                    told = self.study.user_attrs.get(MADE_AGAIN, [])  # a finished trial takes no notes
                    self.study.set_user_attr(MADE_AGAIN, [*told, trial.number])
                    found.append(self._prepare(trial.number, self.recipe_of(trial)))
        return found

    def _enqueue_again(self, trial: FrozenTrial) -> None:
        """Close a trial whose driver was gone before it had a recipe; what somebody had enqueued waits again."""
        asked = trial.system_attrs.get("fixed_params")
        if asked is not None:
            self.study.enqueue_trial(asked)
        self._book.attribute(trial.number, "withdrawn", True)
        self._book.close(trial.number, FAIL, "its driver was gone before it had a recipe")

    def lost(self, number: int) -> None:
        """Note that a trial's worker was lost and that it is handed out again."""
        self._note(number, "its worker was lost: handed out again")

    def _note(self, number: int, what: str) -> None:
        """Add to what happened to a trial: the user attribute ``history``."""
        self._book.attribute(number, HISTORY, [*self._book.frozen(number).user_attrs.get(HISTORY, []), what])

    def recipe_of(self, trial: FrozenTrial) -> Recipe:
        """What a trial runs: as it was written down, or else as the plan or its parameters say."""
        name = trial.user_attrs.get("recipe", "")
        if self._plan is not None and name in self._plan:
            return self._plan[name]
        with contextlib.suppress(FileNotFoundError, ValueError):
            recipe = Recipe.from_json(read_json(self.trial_folder(name) / "recipe.json"))
            if recipe.hash == name:
                return recipe
        return self.space.recipe(trial.params)

    def _fresh(self) -> Proposal | None:
        """Let the sampler propose, and enter the whole trial into the study in one write."""
        trials = self._book.trials()
        if self._plan is not None:
            planned = self._planned(trials)
            if planned is not None or not self._proposes:
                return planned
        found = self.sampler.propose(trials, len(trials))
        if found.params is None:
            return None
        recipe = self.space.recipe(found.params)
        attributes = {"asked": found.asked, "not_fitting": found.dropped, "source": found.source}
        if found.example is not None:
            refused = self.space.recipe(found.example)
            attributes[REFUSAL] = {"recipe": refused.to_json(), "bytes": self._forecast(refused)}
        return self._enter(recipe, found.params, self.space.distributions(), attributes)

    def _planned(self, trials: list[FrozenTrial]) -> Proposal | None:
        """The plan's next recipe; one that cannot fit is closed at once and counted."""
        assert self._plan is not None
        known = {t.user_attrs.get("recipe") for t in trials}
        for recipe in (recipe for name, recipe in self._plan.items() if name not in known):
            fits = not self._binding or self.chance(recipe) >= REFUSED
            params, distributions = self._described(recipe) if self._proposes else ({}, {})
            told = {"asked": 1, "not_fitting": int(not fits), "source": "plan"}
            proposal = self._enter(recipe, params, distributions, told)
            if fits:
                return proposal
            self._book.trial(proposal.number).set_constraint(OVER, self._forecast(recipe)["mid"] - recipe.limit)
            self._book.close(proposal.number, PRUNED, "its forecast does not fit")
        return None

    def _unbounded(self, trial: FrozenTrial) -> bool:
        """Whether the byte limit does not bind a trial: it belongs to the design that a search began with, or an ablation's."""
        return not self._binding and trial.user_attrs.get("source") == "plan"

    def enqueue(self, params: dict[str, Any]) -> None:
        """Ask for a combination before anything else is proposed; where it cannot fit, it is refused and counted."""
        self.study.enqueue_trial(params)

    def _described(self, recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
        """The space's parameters of a planned recipe, from which the sampler learns; nothing where the space lacks it.

        A design may have seeds that the space does not; a score is a score.
        """
        params = self.space.params(recipe)
        reached = self.space.recipe(params).with_(seed=recipe.seed).hash == recipe.hash
        return (params, self.space.distributions()) if reached else ({}, {})

    def _enter(self, recipe: Recipe, params: dict[str, Any], distributions: dict[str, Any], told: dict[str, Any]) -> Proposal:
        """Enter a running trial into the study, in one write, and find the number the storage gave it."""
        told |= {"recipe": recipe.hash, "driver": self.presence.name}
        self.study.add_trial(create_trial(state=RUNNING, params=params, distributions=distributions, user_attrs=told))
        number = max(t.number for t in self._book.unfinished(RUNNING) if t.user_attrs.get("driver") == self.presence.name)
        return self._prepare(number, recipe)

    def _waiting(self) -> Proposal | None:
        """Take up a trial that somebody enqueued (from the dashboard, say); what cannot be or fit is closed at once."""
        while self._book.unfinished(WAITING):
            with self.presence.alone():  # or another driver that starts would take it for one whose driver is gone
                trial = self.study.ask()
                trial.set_user_attr("driver", self.presence.name)
            try:
                asked = self._book.frozen(trial.number).system_attrs.get("fixed_params", {})
                recipe = self.space.recipe(completed(trial, asked, self.space.distributions()))
                fits = self.chance(recipe) >= REFUSED
            except ValueError as error:
                trial.set_user_attr(tally.REFUSED, str(error))
                self._book.close(trial.number, FAIL, str(error))
                continue
            for key, value in {"recipe": recipe.hash, "asked": 1, "not_fitting": int(not fits)}.items():
                trial.set_user_attr(key, value)
            if fits:
                return self._prepare(trial.number, recipe)
            trial.set_user_attr(REFUSAL, {"recipe": recipe.to_json(), "bytes": self._forecast(recipe)})
            trial.set_constraint(OVER, self._forecast(recipe)["mid"] - recipe.limit)
            self._book.close(trial.number, PRUNED, "its forecast does not fit")
        return None

    def _prepare(self, number: int, recipe: Recipe) -> Proposal:
        folder = self.trial_folder(recipe.hash)
        folder.mkdir(parents=True, exist_ok=True)
        set_aside(folder, self._book.readable)  # or its run could not leave its record
        write_atomic(folder / "recipe.json", json.dumps(recipe.to_json()).encode())
        return Proposal(number, recipe, self._forecast(recipe))

    def _mine(self, proposal: Proposal) -> bool:
        """Whether this driver may run it: no earlier trial has its recipe, and there is still room for it."""
        later, totals = self._book.trials()[proposal.number :], self._book.totals()
        first = totals.first(proposal.recipe.hash)
        twin = first is not None and first < proposal.number
        if twin or totals.counted() - tally.counted(later) >= self.target:
            self._book.attribute(proposal.number, "withdrawn", True)
            self._book.close(proposal.number, FAIL, "another driver was first" if twin else "the search was full")
            return False
        return True

    def _withdrawn(self, trial: FrozenTrial) -> bool:
        """Withdraw a trial whose driver died before it saw that an earlier one has its recipe; whether that was so."""
        first = self._book.totals().first(trial.user_attrs.get("recipe", ""))
        if first is None or first >= trial.number or tally.INSTEAD_OF in trial.user_attrs:
            return False
        self._book.attribute(trial.number, "withdrawn", True)
        self._book.close(trial.number, FAIL, "another driver was first")
        return True

    def _forecast(self, recipe: Recipe) -> dict[str, float]:
        if recipe.hash not in self._known:
            self._known[recipe.hash] = self.forecaster(recipe)
        return self._known[recipe.hash]

    def chance(self, recipe: Recipe) -> float:
        """Probability that a recipe fits its limit, as far as its forecast says."""
        return chance(self._forecast(recipe), recipe.limit)

    # ------------------------------------------------------------------ tell

    def report(self, number: int, rung: dict[str, Any]) -> str | None:
        """Enter a rung into the trial's curve; return why it must stop now, or None."""
        frozen = self._book.frozen(number)
        if frozen.state.is_finished():  # it only makes a damaged record again
            return None
        trial, self._rungs[number] = self._book.trial(number), rung
        step, told = int(rung["step"]), frozen.user_attrs
        scored = rung.get("bpb") is not None and bool(rung.get("complete")) == self._halving
        if scored and step not in frozen.intermediate_values:
            if rung.get("documents"):
                trial.set_user_attr(DOCUMENTS, told.get(DOCUMENTS, {}) | {str(step): rung["documents"]})
            if rung.get("trainings"):
                before = told.get(SHORTER, {"trainings": 0.0, "seconds": 0.0})
                trial.set_user_attr(SHORTER, {key: before[key] + rung[key] for key in before})
            trial.report(float(rung["bpb"]), step)
        if rung.get("bytes") is not None:
            trial.set_user_attr(BYTES, [*told.get(BYTES, []), int(rung["bytes"])])
            trial.set_user_attr(BYTES_AT, told.get(BYTES_AT, {}) | {str(step): int(rung["bytes"])})
            trial.set_user_attr(PROGRESS, float(rung.get("progress", 0.0)))
        frozen = self._book.frozen(number)
        if self._pruner.too_large(frozen) and not self._unbounded(frozen):
            over = frozen.user_attrs[BYTES][-1] - self.space.preset.limit
            trial.set_constraint(OVER, over)
            self._reasons[number] = f"{over:,} bytes over the limit at {rung.get('progress', 0):.0%} of the run"
        elif scored and self._by_score.prune(self.study, frozen):
            at = f"after a complete schedule of {rung['tokens']:,} tokens" if rung.get("complete") else "by its score"
            self._reasons[number] = f"stopped {at}, at {rung.get('progress', 0):.0%} of the run: {rung['bpb']:.4f} bpb"
        if number in self._reasons and rung.get("complete"):
            trial.set_user_attr("trained", False)  # its whole schedule was never begun
        return self._reasons.get(number)

    def cut(self, number: int, record: Record) -> Record:
        """Complete the record of a trial that was stopped by what its last rung told."""
        rung = self._rungs.get(number, {})
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

    def recorded(self, proposal: Proposal) -> bool:
        """Whether its record is on disk, and whole."""
        return Record.read(self.trial_folder(proposal.recipe.hash)) is not None

    def stopped(self, number: int) -> str | None:
        """Why the pruner stopped this trial, or None if it did not."""
        return self._reasons.get(number)

    def finish(self, number: int, record: Record) -> None:
        """Tell the study how a trial ended; the record is put on disk first if the worker could not."""
        frozen, folder = self._book.frozen(number), self.trial_folder(record.recipe)
        record.trained &= frozen.user_attrs.get("trained", True)
        kept = Record.read(folder) if frozen.state.is_finished() else None
        if kept is None or kept.trial is None:  # what has ended has ended, unless its record was damaged and is made again
            noted(record, frozen).save(folder)
        if frozen.state.is_finished():
            return
        trial, observation = self._book.trial(number), self.learn(record)
        if observation is not None:
            trial.set_user_attr(TAUGHT, observation)
        if record.bytes is not None and OVER not in trial.constraints:
            trial.set_constraint(OVER, record.bytes - self.space.preset.limit)
        trial.set_user_attr("trained", record.trained)
        trial.set_user_attr("seconds", record.seconds)
        over = record.bytes is not None and record.bytes > self.space.preset.limit and not self._unbounded(frozen)
        if record.state == "complete" and record.bpb is not None and not over:
            self._book.close(number, COMPLETE, record.reason, record.bpb)
        elif record.state == "complete" or record.state in ("pruned", "not_fitting"):
            self._book.close(number, PRUNED, record.reason or f"{record.bytes or 0:,} bytes do not fit")
        else:
            self._book.close(number, FAIL, record.reason)

    def learn(self, record: Record) -> Any:
        """Correct the forecasts by a finished trial; return what `Forecasts.recall` takes instead of the record."""
        self._known.clear()
        return self.forecaster.learn(record)

    def _relearn(self) -> None:
        """Teach the forecaster the finished trials, as far back as it remembers, in the order of their numbers."""
        remembers, recall = getattr(self.forecaster, "remembers", None), getattr(self.forecaster, "recall", None)
        finished = [t for t in self._book.trials() if t.state in (COMPLETE, PRUNED)]
        taught = [t for t in finished if TAUGHT in t.user_attrs]
        for trial in taught[-remembers:] if remembers is not None and len(taught) >= remembers else finished:
            known = recall is not None and recall(trial.user_attrs.get(TAUGHT))
            if not known and (record := self._book.record(trial)) is not None:
                self.forecaster.learn(record)
        self._known.clear()

    def reconcile(self) -> int:
        """Tell the study what the records on disk know and it does not; return how many trials that closed."""
        self._relearn()
        told = 0
        with self.presence.alone():
            for trial in self._book.unfinished(RUNNING):
                record = self._book.record(trial)
                if record is None or self.presence.alive(trial.user_attrs.get("driver", "")):
                    continue
                if not self._withdrawn(trial):
                    self.finish(trial.number, record)
                    told += 1
        return told

    # ------------------------------------------------------------------ look

    def trial_folder(self, recipe_hash: str) -> Path:
        """Where a recipe's record, log and checkpoint lie."""
        return self.folder / "trials" / recipe_hash

    def trials(self) -> list[FrozenTrial]:
        """All trials as the study has them now."""
        return self._book.trials()

    def counts(self) -> dict[str, int]:
        """What was asked for and what became of it: see `golflab.search.ledger.counts.counts`."""
        return self._book.totals().counts()

    def refusal(self) -> dict[str, Any] | None:
        """The first combination that was refused for its size: its recipe as JSON and its forecast bytes."""
        return next((t.user_attrs[REFUSAL] for t in self._book.trials() if REFUSAL in t.user_attrs), None)

    def spent(self) -> dict[str, float]:
        """Trainings started and the seconds they took: see `golflab.search.ledger.counts.spent`."""
        return self._book.totals().spent()

    def rungs(self) -> list[Agreement]:
        """How well the scores at each rung rank the complete trials."""
        return self._book.totals().rungs()

    def has_orphans(self) -> bool:
        """Whether trials are running that no living driver looks after, or have lost their record."""
        adrift = any(not self.presence.alive(t.user_attrs.get("driver", "")) for t in self._book.unfinished(RUNNING))
        return adrift or any(damaged(self._book.where(t), self._book.readable) for t in self._finished())

    def _finished(self) -> Iterator[FrozenTrial]:
        return (t for t in self._book.trials() if t.state.is_finished() and "recipe" in t.user_attrs)

    def remaining(self) -> int:
        """Trials that are still to be started."""
        return max(0, self.target - self._book.totals().counted())

    def best(self) -> Record | None:
        """The best complete record that fits; a plan that the limit does not bind may hold better ones that do not."""
        complete = [t for t in self._book.trials() if t.state == COMPLETE and t.value is not None]
        for trial in sorted(complete, key=lambda t: t.value or 0.0):
            record = self._book.record(trial)
            if record is not None and record.fits:
                return record
        return None
