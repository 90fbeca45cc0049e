"""Entries: trials as they stand in the study while they run: their recipe, their driver, and no recipe twice."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from golflab.model.recipe import Recipe
from golflab.model.system.files import write_atomic
from golflab.model.system.untrusted import read_json
from golflab.search.ledger.book import Book, set_aside
from golflab.search.ledger.counts import INSTEAD_OF, OVER, counted
from golflab.search.ledger.problem import RecipeProblem
from golflab.search.ledger.requested import Plan
from golflab.search.sampler.proposal import Proposal

HISTORY = "history"  # user attribute: what happened to a trial besides its end, in order
ANOTHER_FIRST = "another driver was first"


class Entries:
    """Enters trials, closes those that never start, and prepares their folders.

    Args:
        study: the study.
        book: its trials, for reading and writing.
        folder: of the experiment.
        problem: what is searched.
        plan: recipes that are run before anything is proposed.
        driver: name of this driver.
    """

    def __init__(self, study: optuna.Study, book: Book, folder: Path, problem: RecipeProblem, plan: Plan, driver: str) -> None:
        self._study, self._book, self._problem, self._driver = study, book, problem, driver
        self._trials_folder = folder / "trials"
        self._planned = {recipe.hash: recipe for recipe in plan.recipes or ()}

    def folder(self, recipe_hash: str) -> Path:
        """Where a recipe's record, log and checkpoint lie."""
        return self._trials_folder / recipe_hash

    def enter(self, recipe: Recipe, params: dict[str, Any], rules: dict[str, Any], attributes: dict[str, Any]) -> Proposal:
        """Enter a running trial into the study, in one write, and find the number that the storage gave it."""
        attributes |= {"recipe": recipe.hash, "driver": self._driver}
        running = TrialState.RUNNING
        self._study.add_trial(create_trial(state=running, params=params, distributions=rules, user_attrs=attributes))
        number = max(t.number for t in self._book.unfinished(running) if t.user_attrs.get("driver") == self._driver)
        return self.prepare(number, recipe)

    def prepare(self, number: int, recipe: Recipe) -> Proposal:
        """Write a trial's recipe into its folder. A damaged record is renamed, or the run could not leave its own."""
        folder = self.folder(recipe.hash)
        folder.mkdir(parents=True, exist_ok=True)
        set_aside(folder, self._book.readable)
        write_atomic(folder / "recipe.json", json.dumps(recipe.to_json()).encode())
        return Proposal(number, recipe, self._problem.forecast(recipe))

    def recipe_of(self, trial: FrozenTrial) -> Recipe:
        """What a trial runs: as it was written down, or else as the plan or its parameters say."""
        name = trial.user_attrs.get("recipe", "")
        if name in self._planned:
            return self._planned[name]
        with contextlib.suppress(FileNotFoundError, ValueError):
            recipe = Recipe.from_json(read_json(self.folder(name) / "recipe.json"))
            if recipe.hash == name:
                return recipe
        return self._problem.recipes.recipe(trial.params)

    def refuse(self, number: int, recipe: Recipe) -> None:
        """Close a trial that cannot fit before it starts."""
        self._book.trial(number).set_constraint(OVER, self._problem.forecast(recipe)["mid"] - recipe.limit)
        self._book.close(number, TrialState.PRUNED, "its forecast does not fit")

    def withdraw(self, number: int, reason: str) -> None:
        """Close a trial that counts for nothing."""
        self._book.attribute(number, "withdrawn", True)
        self._book.close(number, TrialState.FAIL, reason)

    def withdraw_if_surplus(self, proposal: Proposal, target: int) -> bool:
        """Withdraw a new trial if an earlier one has its recipe, or if the study is full; return whether it was withdrawn."""
        newer, totals = self._book.trials()[proposal.number :], self._book.totals()
        first = totals.first(proposal.recipe.hash)
        duplicate = first is not None and first < proposal.number
        if duplicate or totals.counted() - counted(newer) >= target:
            self.withdraw(proposal.number, ANOTHER_FIRST if duplicate else "the search was full")
            return True
        return False

    def withdraw_if_duplicate(self, trial: FrozenTrial) -> bool:
        """The same for a trial whose driver died before it could look; return whether it was withdrawn."""
        first = self._book.totals().first(trial.user_attrs.get("recipe", ""))
        if first is None or first >= trial.number or INSTEAD_OF in trial.user_attrs:
            return False
        self.withdraw(trial.number, ANOTHER_FIRST)
        return True

    def note(self, number: int, what: str) -> None:
        """Add a line to what happened to a trial."""
        self._book.attribute(number, HISTORY, [*self._book.frozen(number).user_attrs.get(HISTORY, []), what])
