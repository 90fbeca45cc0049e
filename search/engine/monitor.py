"""A Ray Tune callback: it calls the watcher regularly, and checks the nodes' imports after a worker is lost.

A worker that cannot import golflab loses every trial that it gets, and Tune would hand the trials out again and again. So
after the first loss every node is asked, once, whether golflab can be imported there.
"""

from __future__ import annotations

import contextlib
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from golflab.search.engine import lookup
from golflab.search.engine.searcher import Halted, Stateless, Watcher


class CannotImport(Halted):
    """Ends a search whose workers cannot import what they need, so that no trial can run."""


class ClusterMonitor(Stateless, tune.Callback):
    """Called by Tune at every step of its loop, and when a trial's worker is lost.

    Args:
        watcher: its ``tick`` is called at every step.
        runner: ``module:function`` that the workers run.
    """

    def __init__(self, watcher: Watcher, runner: str) -> None:
        self._watcher, self._runner = watcher, runner
        self._asked: list[Any] = []
        self._done = False

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Call the watcher, and read the answers of the nodes."""
        self._watcher.tick()
        answered, self._asked = ray.wait(self._asked, num_returns=len(self._asked), timeout=0) if self._asked else ([], [])
        for answer in answered:
            with contextlib.suppress(RayError):  # the node may be gone; its lost trials are handled elsewhere
                if why := ray.get(answer):
                    raise CannotImport(f"The workers cannot run anything. {why}")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Ask every node, once, whether the modules can be imported there; not if the worker had started before it died."""
        if self._done or _only_died(trial):
            return
        self._done = True
        names = ["golflab.search.engine.trainable", self._runner.partition(":")[0]]
        ray.cloudpickle.register_pickle_by_value(lookup)
        try:
            ask = ray.remote(num_cpus=0, max_retries=0)(lookup.trouble)
            self._asked = [
                ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                    names, lookup.ROOT
                )
                for node in ray.nodes()
                if node["Alive"]
            ]
        finally:
            ray.cloudpickle.unregister_pickle_by_value(lookup)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The same if Tune does not retry the trial."""
        self.on_trial_recover(iteration, trials, trial)


def _only_died(trial: Any) -> bool:
    """Whether a trial's worker died after its start, with its node for instance: then its imports worked."""
    try:
        error = trial.get_pickled_error()
    except Exception:  # it cannot be unpickled here, so its cause is unknown
        return False
    return isinstance(error, RayActorError) and not error.actor_init_failed
