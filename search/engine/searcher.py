"""Ray Tune's two public interfaces over the ledger: a Searcher that asks and tells, a scheduler that asks the pruner."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from golflab.model.record import Record, disk_full
from golflab.search.engine.running import forget
from golflab.search.engine.standing import Opening, Standing
from golflab.search.ledger.ledger import Ledger
from golflab.search.ledger.pruners import Agreement
from golflab.search.sampler.proposal import Proposal

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


RETRIES = 3  # of a trial whose worker was lost, after Tune's own


class Halted(KeyboardInterrupt):
    """Ends a search at once, as Ctrl-C does, for a reason; it must pass through Tune, which survives other exceptions."""


@contextmanager
def _halting() -> Iterator[None]:
    """Halt the search where nothing more can be written down."""
    try:
        yield
    except OSError as error:
        if reason := disk_full(error):
            raise Halted(reason) from error
        raise


class Watcher:
    """Hears what happens; a live table derives from it, and tests listen through it."""

    shown = 0  # trials of earlier drivers that it wants to hear of

    def opened(self, found: Opening) -> None:
        """An experiment begins or goes on: what there is of it."""

    def starting(self, what: str) -> None:
        """Something begins that takes seconds: ``starting Ray``."""

    def placed(self, what: str) -> None:
        """Before anything runs: what will run where, in words."""

    def tick(self) -> None:
        """Several times a second, while trials run."""

    def started(self, proposal: Proposal) -> None:
        """A trial was handed to a worker."""

    def rung(self, number: int, rung: dict[str, Any]) -> None:
        """A trial reached a rung."""

    def finished(self, number: int, record: Record) -> None:
        """A trial ended."""

    def expects(self, trials: int) -> None:
        """So many more trials will come: the best found is confirmed."""

    def note(self, text: str) -> None:
        """Something the user should know now."""

    def standing(self, spent: dict[str, float], rungs: list[Agreement], now: Standing | None = None) -> None:
        """After each trial: trainings and seconds spent, how well rungs predict the end, and where the search stands."""


class Stateless:
    """Pickles as nothing: Tune writes its arguments to disk for a restore that is never used here."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class LedgerSearcher(Stateless, Searcher):
    """Hands out the ledger's proposals, orphans of an earlier driver first, and tells the ledger how they ended.

    Args:
        ledger: the one place where anything is kept.
        watcher: hears what happens.
        settings: what every trial's configuration holds (runner, cache).
        may_start: asked before each proposal; a reason to start no more, or None.
    """

    def __init__(
        self, ledger: Ledger, watcher: Watcher, settings: dict[str, Any], may_start: Callable[[], str | None] = lambda: None
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._ledger, self._watcher, self._settings, self._may_start = ledger, watcher, settings, may_start
        self._orphans = [*ledger.orphans(), *ledger.damaged()]
        self._running: dict[str, Proposal] = {}
        self._retries: dict[int, int] = {}
        self.ended_because = ""

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration, or `Searcher.FINISHED`."""
        with _halting():
            return self._suggestion(trial_id)

    def _suggestion(self, trial_id: str) -> Any:
        proposal = self._orphans.pop(0) if self._orphans else self._next()
        if proposal is None:
            return Searcher.FINISHED
        self._running[trial_id] = proposal
        forget(self._ledger.trial_folder(proposal.recipe.hash))
        self._watcher.started(proposal)
        own = {
            "number": proposal.number,
            "recipe": json.dumps(proposal.recipe.to_json()),
            "folder": str(self._ledger.trial_folder(proposal.recipe.hash)),
            "forecast": proposal.forecast,
        }
        return self._settings | own

    def _next(self) -> Proposal | None:
        if reason := self._may_start():
            self.ended_because = reason
            return None
        proposal = self._ledger.propose()
        if proposal is None and (left := self._ledger.orphans()):  # of another driver, which has died since
            proposal, *more = left
            self._orphans += more
        if proposal is None and self._ledger.remaining():
            self.ended_because = "no combination is left that fits and was not tried"
        return proposal

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the ledger: the record the worker returned, what the pruner decided, or that the worker was lost."""
        if "halt" in (result or {}):
            raise Halted(json.loads(result["halt"])["reason"])  # type: ignore[index]
        with _halting():
            self._ended(trial_id, result or {}, error)

    def _ended(self, trial_id: str, result: dict[str, Any], error: bool) -> None:
        proposal = self._running.pop(trial_id, None)
        if proposal is None:
            return
        lost = error and self._ledger.rungs.stopped(proposal.number) is None and not self._ledger.recorded(proposal)
        if lost and self._retries.setdefault(proposal.number, RETRIES) > 0:
            self._retries[proposal.number] -= 1
            self._ledger.lost(proposal.number)
            self._orphans.append(proposal)  # it is handed out again and continues from its checkpoint
            return
        record = self._record(proposal, result, error)
        self._ledger.finish(proposal.number, record)
        self._watcher.finished(proposal.number, record)

    def lost_all(self) -> None:
        """Hand out again what is running: the whole run of Tune was lost."""
        for trial_id in list(self._running):
            self.on_trial_complete(trial_id, error=True)

    def _record(self, proposal: Proposal, result: dict[str, Any], error: bool) -> Record:
        folder, recipe = self._ledger.trial_folder(proposal.recipe.hash), proposal.recipe
        if not error and "record" in result:
            return Record(**json.loads(result["record"]))
        if (record := Record.read(folder)) is not None:  # it was finished when its worker was lost
            return record
        reason = self._ledger.rungs.stopped(proposal.number)
        state, why = ("pruned", reason) if reason else ("failed", "its worker was lost, again after every retry")
        body = Record(recipe.hash, recipe.seed, recipe.name, state, recipe.to_json(), reason=why)
        body.bytes_forecast = proposal.forecast or None
        return self._ledger.rungs.completed(proposal.number, body)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is in its storage already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is in its storage already."""


class LedgerScheduler(Stateless, FIFOScheduler):
    """Runs trials in order and stops those the study's pruner wants stopped."""

    def __init__(self, ledger: Ledger, watcher: Watcher) -> None:
        super().__init__()
        self._ledger, self._watcher = ledger, watcher
        self._controller: TuneController | None = None
        self._ended: list[Trial] = []

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Remember who runs the trials."""
        self._controller = tune_controller

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        """Have Tune forget the records of trials that ended before: it keeps every trial's last result for as long as it runs.

        Not yet this one's, which the searcher is told of after the scheduler.
        """
        for before in self._ended:
            before.last_result.pop("record", None)
        self._ended = [trial]

    def end_trials(self) -> None:
        """End the workers of an interrupted search, as Tune itself does after any exception but an interrupt."""
        if self._controller is not None:
            self._controller.cleanup()

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Enter a rung into the ledger and return Tune's verdict."""
        if "rung" not in result:
            return TrialScheduler.CONTINUE
        rung = json.loads(result["rung"])
        number = trial.config["number"]
        self._watcher.rung(number, rung)
        with _halting():
            return TrialScheduler.STOP if self._ledger.rungs.report(number, rung) else TrialScheduler.CONTINUE
