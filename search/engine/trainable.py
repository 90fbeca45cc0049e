"""GolfTrial: Ray Tune's view of a worker. It runs one recipe after another, reports rungs, and hears whether to go on.

A worker is a long-lived process: torch is imported and data is mapped once, not once per trial. The run itself is a function
that calls back at rungs. It runs in a thread, and the callback waits until Tune calls `step` again; by then the driver has
asked the pruner.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from ray import tune

from golflab.model.recipe import Recipe
from golflab.model.record import Record
from golflab.model.ways import Way
from golflab.search.engine.halving import Halving
from golflab.search.engine.process_group import ProcessGroup, load, node, own_device
from golflab.search.engine.session import Session, on_the_same_text, run_safely
from golflab.search.ledger.forecast import FixedForecast


def _verdict(folder: Path) -> str:
    """Why a run was stopped: the driver has written it into the record, if it shares the folder."""
    record = Record.read(folder)
    return "stopped by the pruner" if record is None else record.reason


class GolfTrial(tune.Trainable):
    """The Ray Tune Trainable that runs trials.

    Its configuration: runner, recipe (JSON text), forecast (low, mid and high bytes), folder, cache, processes, bundle
    (resources of each process), halving, local_disk and texts (fingerprints by corpus). Tune keeps the configurations of all
    trials in memory, so they must be small.
    """

    _session: Session | None
    _group: ProcessGroup | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Keep the configuration. The run starts at the first step, because Tune retries a lost trial only from then on."""
        self._next, self._session = config, None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Stop the last recipe, if it has not ended, and take another one."""
        if self._session is not None:
            self._session.stop(_verdict(Path(self._next["folder"])))
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Return the next rung; or ``done`` with the record, or with the reason why the search must halt."""
        if self._session is None:
            self._session = self._start(self._next)
        kind, body = self._session.next()
        return {kind: json.dumps(body), "done": kind != "rung"}  # as text: Tune flattens dictionaries

    def _start(self, config: dict[str, Any]) -> Session:
        recipe = Recipe.from_json(json.loads(config["recipe"]))
        folder, cache, runner = Path(config["folder"]), Path(config["cache"]), config["runner"]
        local_disk = Path(config["local_disk"]) if config["local_disk"] else None
        settings: dict[str, Any] = {
            "calibration": FixedForecast(recipe, config["forecast"]) if config["forecast"] else None,
            "local_disk": local_disk,
            "device": own_device(),
            "where": {"nodes": node()},
        }
        if (count := config["processes"]) > 1:
            if self._group is None:
                self._group = ProcessGroup(config["bundle"], count, f"{runner.partition(':')[0]}:assist")
            nodes = self._group.start()
            settings |= {
                "where": {"nodes": " ".join(sorted(set(nodes))), "processes": str(count)},
                "processes": count,
                "watch": self._group.check,
                "together": functools.partial(self._group.training, cache, {"local_disk": local_disk}),
            }
        measuring = json.loads(config["measuring"])
        if "ways" in measuring:
            measuring["ways"] = [Way.parse(text) for text in measuring["ways"]]
        settings |= measuring
        run = on_the_same_text(load(runner), config.get("texts", {}))
        if config["halving"]:
            run = Halving(run, functools.partial(run_safely, processes=count), config["halving"])
        return Session(run, recipe, folder, cache, **settings)

    def cleanup(self) -> None:
        """The worker ends. A run in progress continues from its checkpoint elsewhere, so it leaves no record here."""
        if self._group is not None:
            self._group.end()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: training keeps its own checkpoints in the stage cache."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load."""
