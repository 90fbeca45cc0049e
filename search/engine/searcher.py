"""Two of Ray Tune's public interfaces: a Searcher over the ledger, and a scheduler that asks the pruners."""

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


RETRIES = 3  # of a trial whose worker was lost, after Tune's own retries


class Halted(KeyboardInterrupt):
    """Ends a search at once, as Ctrl-C does. It is a KeyboardInterrupt because Tune catches other exceptions."""


@contextmanager
def _halting() -> Iterator[None]:
    """Halt the search if the disk is full."""
    try:
        yield
    except OSError as error:
        if reason := disk_full(error):
            raise Halted(reason) from error
        raise


class Watcher:
    """Called for every event of a search. The live table is a subclass."""

    shown = 0  # number of earlier trials that `opened` should get

    def opened(self, found: Opening) -> None:
        """An experiment starts or continues, in this state."""

    def starting(self, what: str) -> None:
        """Something that takes seconds starts: ``starting Ray``."""

    def placed(self, what: str) -> None:
        """Before anything runs: how trials are placed on the cluster, in words."""

    def tick(self) -> None:
        """Several times a second, while trials run."""

    def started(self, proposal: Proposal) -> None:
        """A trial was handed to a worker."""

    def rung(self, number: int, rung: dict[str, Any]) -> None:
        """A trial reached a rung."""

    def finished(self, number: int, record: Record) -> None:
        """A trial ended."""

    def expects(self, trials: int) -> None:
        """This many more trials follow, because the best recipe is confirmed."""

    def note(self, text: str) -> None:
        """Something the user should know now."""

    def standing(self, spent: dict[str, float], rungs: list[Agreement], now: Standing | None = None) -> None:
        """After each trial: trainings and seconds spent, how well rungs predict the final score, and the progress."""


class Stateless:
    """Pickles without its state: Tune writes its arguments to disk for a restore that golflab does not use."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class LedgerSearcher(Stateless, Searcher):
    """Hands out the ledger's proposals, trials of dead drivers first, and tells the ledger how they ended.

    Args:
        ledger: holds all state.
        watcher: called for every event.
        settings: part of every trial's configuration (runner, cache, …).
        may_start: called before each proposal; returns why no trial may start any more, or None.
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
        if proposal is None and (left := self._ledger.orphans()):  # of another driver that has died since
            proposal, *more = left
            self._orphans += more
        if proposal is None and self._ledger.remaining():
            self.ended_because = "no combination that fits is left untried"
        return proposal

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the ledger how a trial ended: by its record, by the pruner, or because its worker was lost."""
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
        """Hand out all running trials again, because Tune itself failed."""
        for trial_id in list(self._running):
            self.on_trial_complete(trial_id, error=True)

    def _record(self, proposal: Proposal, result: dict[str, Any], error: bool) -> Record:
        folder, recipe = self._ledger.trial_folder(proposal.recipe.hash), proposal.recipe
        if not error and "record" in result:
            return Record(**json.loads(result["record"]))
        if (record := Record.read(folder)) is not None:  # it was finished when its worker was lost
            return record
        reason = self._ledger.rungs.stopped(proposal.number)
        state, why = ("pruned", reason) if reason else ("failed", "its worker was lost, in every retry")
        body = Record(recipe.hash, recipe.seed, recipe.name, state, recipe.to_json(), reason=why)
        body.bytes_forecast = proposal.forecast or None
        return self._ledger.rungs.completed(proposal.number, body)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is in its storage already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is in its storage already."""


class LedgerScheduler(Stateless, FIFOScheduler):
    """Runs trials in order and stops those that the pruners stop."""

    def __init__(self, ledger: Ledger, watcher: Watcher) -> None:
        super().__init__()
        self._ledger, self._watcher = ledger, watcher
        self._controller: TuneController | None = None
        self._ended: list[Trial] = []

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Keep Tune's controller."""
        self._controller = tune_controller

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        """Remove the records of earlier trials from Tune's memory: it keeps every trial's last result as long as it runs.

        This trial's record stays until the next call, because the searcher is called after the scheduler.
        """
        for before in self._ended:
            before.last_result.pop("record", None)
        self._ended = [trial]

    def end_trials(self) -> None:
        """End the workers of an interrupted search; Tune does this itself only after other exceptions."""
        if self._controller is not None:
            self._controller.cleanup()

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Enter a rung into the ledger; return whether Tune must stop the trial."""
        if "rung" not in result:
            return TrialScheduler.CONTINUE
        rung = json.loads(result["rung"])
        number = trial.config["number"]
        self._watcher.rung(number, rung)
        with _halting():
            return TrialScheduler.STOP if self._ledger.rungs.report(number, rung) else TrialScheduler.CONTINUE
