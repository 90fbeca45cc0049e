"""What a search has spent, whether more trials may start, and the state in ``experiment.json``."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from golflab.model.recipe import Recipe
from golflab.model.record import Record, disk_full
from golflab.model.system.wording import number_of
from golflab.search.engine.standing import UNBOUNDED, Budget, Opening, Standing, finished_last, standing_of
from golflab.search.experiment.again import lost_reference
from golflab.search.experiment.experiment_file import read_experiment, write_experiment
from golflab.search.experiment.folder import Experiment
from golflab.search.experiment.options import Options
from golflab.search.ledger.ledger import Ledger
from golflab.search.ledger.pruners import Agreement
from golflab.search.ledger.requested import PlanClock
from golflab.spaces.difference import short


class Clock:
    """Measures what has been spent, decides whether more trials may start, and keeps ``experiment.json`` up to date.

    Args:
        options: of the search.
        ledger: of the search.
        plan: recipes that are run before anything is proposed, or None.
        own: identity of the experiment.
        compared: hash of an ablation's reference, if the byte limit may stop it; else an empty text.
    """

    def __init__(
        self,
        options: Options,
        ledger: Ledger,
        plan: Sequence[Recipe] | None = None,
        own: Experiment | None = None,
        compared: str = "",
    ) -> None:
        self._own, self._compared = own, compared
        self._options, self._ledger, self._folder = options, ledger, options.folder
        self._planned = [recipe.hash for recipe in plan or ()] if options.design == "first" else None
        self._plan = PlanClock(plan) if plan and len(plan) >= options.trials else None
        self._budget, self.gpus_per_trial = Budget.parse(options.budget), options.gpus_per_trial or 0.0
        there = (options.folder / "experiment.json").exists()
        self._before = read_experiment(options.folder).get("seconds", 0.0) if there else 0.0
        self._started, self._lasted, self._warned = time.monotonic(), [0.0], False

    def seconds(self) -> float:
        """Seconds of wall time, over all resumes."""
        return self._before + time.monotonic() - self._started

    def may_start(self) -> str | None:
        """Why no further trial may start, or None. A trial is expected to take the median time of the trials so far."""
        if reason := self.hopeless():
            return reason
        spent = self._ledger.spent()
        typical = sorted(self._lasted)[len(self._lasted) // 2]
        if self.seconds() + typical > self._budget.seconds:
            return f"the budget of {self._options.budget} is spent"
        if spent["trainings"] >= self._budget.trainings or spent["seconds"] * self.gpus_per_trial >= self._budget.gpu_seconds:
            return f"the budget of {self._options.budget} is spent"
        return None

    def hopeless(self) -> str:
        """Why an ablation has become useless, or an empty text."""
        return lost_reference(self._ledger, self._compared) if self._compared else ""

    def too_slow(self) -> str:
        """A warning that the budget is too small for all trials, once, as soon as the pace shows it; else an empty text."""
        done, left = self._ledger.target - self._ledger.remaining(), self._budget.seconds - self.seconds()
        if self._warned or self._options.trials >= UNBOUNDED or not math.isfinite(left) or len(self._lasted) < 4:
            return ""
        expected = done + max(0.0, left) * (len(self._lasted) - 1) / self.seconds()
        if expected >= self._options.trials:
            return ""
        self._warned = True
        return (
            f"At this pace the budget of {self._options.budget} is enough for about {expected:.0f} of "
            f"{number_of(self._options.trials, 'trial')}. `{self._options.resume_command} --budget …` continues the search "
            "afterwards."
        )

    def standing(self) -> tuple[dict[str, float], list[Agreement], Standing]:
        """What has been spent, how well rungs predict the final score, and the progress of the search."""
        now = self._now()
        return now.spent, self._ledger.agreements(), now

    def opening(self, shown: int) -> Opening:
        """The state when this driver starts: the progress of the search, and the trials that ended last."""
        o = self._options
        return Opening(o.name, self._folder, o.resume_command, o.budget, self._now(), finished_last(self._ledger, shown))

    def _now(self) -> Standing:
        done, began = len(self._lasted) - 1, time.monotonic() - self._started
        planned = self._plan.left(self._ledger.finished(), began) if self._plan is not None and done else None
        return standing_of(self._ledger, self._budget, self.seconds(), self.gpus_per_trial, (done, began), planned)

    def wrap(self, watcher: Any) -> Any:
        """A watcher that passes events on to this clock, too."""
        return TimingWatcher(watcher, self)

    def lasted(self, record: Record, seconds: float) -> None:
        """Note how long a trial took, and save the counts."""
        self._lasted.append(seconds)
        if self._plan is not None:
            self._plan.lasted(record, seconds)
        self.save("running")

    def save(self, state: str, reason: str = "") -> None:
        """Write ``experiment.json``. A full disk is ignored, because the file only repeats what the ledger has."""
        try:
            self._write(state, reason)
        except OSError as error:
            if not disk_full(error):
                raise

    def _write(self, state: str, reason: str) -> None:
        assert self._own is not None
        write_experiment(
            self._folder,
            self._own.json(self._options)
            | {
                "state": state,
                "reason": reason,
                # A plan, and a search that only screens, propose without looking at scores, so their effects are unbiased.
                "design": self._options.design or ("screen" if (self._options.screen or 0) >= self._options.trials else None),
                "counts": self._ledger.counts(),
                "spent": self._ledger.spent(),
                "seconds": self.seconds(),
                "resume": self._options.resume_command,
                "planned": self._planned,
                "refusal": self._refusal(),
            },
        )

    def _refusal(self) -> dict[str, Any] | None:
        """The first combination that was refused for its size: in words, with its forecast bytes."""
        refusal = self._ledger.refusal()
        if refusal is None:
            return None
        recipe, preset = Recipe.from_json(refusal["recipe"]), self._ledger.problem.recipes.preset
        return {"words": short(recipe, preset), "recipe": recipe.hash, "bytes": refusal["bytes"], "limit": preset.limit}


class TimingWatcher:
    """Times the trials and passes every event on to a `golflab.search.engine.searcher.Watcher`."""

    def __init__(self, watcher: Any, clock: Clock) -> None:
        self._watcher, self._clock = watcher, clock
        self._began: dict[int, float] = {}

    def placed(self, what: str) -> None:
        self._watcher.placed(what)

    def tick(self) -> None:
        self._watcher.tick()

    def expects(self, trials: int) -> None:
        self._watcher.expects(trials)

    def note(self, text: str) -> None:
        self._watcher.note(text)

    def started(self, proposal: Any) -> None:
        self._began[proposal.number] = time.monotonic()
        self._watcher.started(proposal)
        self._watcher.standing(*self._clock.standing())

    def rung(self, number: int, rung: dict[str, Any]) -> None:
        self._watcher.rung(number, rung)

    def finished(self, number: int, record: Record) -> None:
        self._clock.lasted(record, time.monotonic() - self._began.pop(number, time.monotonic()))
        self._watcher.finished(number, record)
        self._watcher.standing(*self._clock.standing())
        if warning := self._clock.too_slow():
            self._watcher.note(warning)
