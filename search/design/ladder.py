"""A ladder: every technique of a preset with and without, on several scales and durations, with common seeds."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from golflab.model.recipe import Recipe
from golflab.model.slots import SLOTS
from golflab.model.technique import find, parse
from golflab.search.experiment.identity import absolute
from golflab.search.ledger.problem import training_key
from golflab.spaces.presets import preset
from golflab.spaces.scales import PACED, SCALES, at_duration, paced, parameters_of, suited, without

NOISE = (
    0.010  # standard deviation of one seed's paired difference at `nano`, bits per byte, until a ladder has measured its own
)
PACE_STEPS = 3


@dataclass(frozen=True)
class Rung:
    """A scale and a duration.

    Attributes:
        scale: its name.
        tokens_per_parameter: of the preset.
        arms: recipes with the preset's own seed; under ``""`` the one that all others are compared with, then by technique.
    """

    scale: str
    tokens_per_parameter: float
    arms: dict[str, Recipe]

    @property
    def base(self) -> Recipe:
        """What the others are compared with."""
        return self.arms[""]

    @property
    def trainings(self) -> int:
        """Trainings that one seed takes; techniques that act after training share the preset's."""
        return len({training_key(recipe) for recipe in self.arms.values()})

    @property
    def key(self) -> tuple[Any, Any]:
        """What makes it another rung than others: body and schedule."""
        return self.base.shape, self.base.schedule

    def runs(self, seeds: int) -> list[Recipe]:
        """All arms with so many seeds, one seed after the other."""
        return [arm.with_(seed=self.base.seed + seed) for seed in range(seeds) for arm in self.arms.values()]

    def seconds(self, pace: Pace) -> float:
        """Of one seed of all arms on one worker."""
        return self.price(pace, list(self.arms.values()))

    def price(self, pace: Pace, runs: Sequence[Recipe]) -> float:
        """Seconds of some of its runs on one worker; runs that share a training train once."""
        training = (self.base.schedule.tokens or 0) / pace.tokens_per_second
        return len({training_key(recipe) for recipe in runs}) * training + len(runs) * pace.after


@dataclass(frozen=True)
class Pace:
    """How fast a scale is on one worker.

    Attributes:
        tokens_per_second: of training.
        after: seconds of everything that follows a training.
    """

    tokens_per_second: float
    after: float


@dataclass(frozen=True)
class Rungs:
    """All rungs that a ladder may use, cheapest first.

    Attributes:
        rungs: by scale and duration.
        techniques: that are measured.
        notes: what a reader should know before paying.
    """

    rungs: tuple[Rung, ...]
    techniques: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    def recipes(self, seeds: Sequence[int]) -> list[Recipe]:
        """What to run, with so many seeds on each rung: cheap rungs first, and on each one seed after the other."""
        return [recipe for rung, count in zip(self.rungs, seeds, strict=True) for recipe in rung.runs(count)]


def rungs(
    name: str, scales: Sequence[str], durations: Sequence[float], techniques: Sequence[str] = (), **changes: Any
) -> Rungs:
    """The rungs of a ladder around a preset.

    Args:
        name: of the preset.
        scales: of `golflab.spaces.scales.SCALES`.
        durations: training tokens per parameter.
        techniques: names of the preset's techniques, which are left out in their arm, or techniques to add to it, as the
            command line writes them; by default all that the preset has on and that can change a score.
        **changes: of every recipe, as ``corpus`` and ``seed``; those that are None stay as they are.

    Raises:
        ValueError: an unknown name, scale or technique, a duration that is too short, or nothing to measure.
    """
    if not scales or not durations:
        raise ValueError("ladder: name at least one of --scales and one of --durations.")
    if unknown := [scale for scale in scales if scale not in SCALES]:
        raise ValueError(f"ladder: scale={unknown[0]!r} must be one of {', '.join(SCALES)}.")
    changes = {key: value for key, value in changes.items() if value is not None}
    asked, notes, found = _asked(preset(name, "full"), techniques), list[str](), []
    for scale in sorted(set(scales), key=list(SCALES).index):
        for duration in sorted(set(durations)):
            base = paced(at_duration(preset(name, scale).with_(**changes), duration))
            base = base.with_(**absolute(base.data))
            found.append(Rung(scale, duration, {"": base} | _arms(name, base, asked, scale, notes)))
    measured = tuple(t for t in asked if any(t in rung.arms for rung in found))
    if not measured:
        raise ValueError(f"ladder: none of {', '.join(asked) or 'the techniques'} can be measured. {' '.join(notes)}")
    return Rungs(tuple(found), measured, tuple(dict.fromkeys(notes)))


def _asked(full: Recipe, techniques: Sequence[str]) -> dict[str, str]:
    """Name -> as it was written, of what is measured."""
    here = {t.name: t for t in full.techniques}
    if techniques:
        return {parse(text).name: text for text in techniques}
    return {
        n: n
        for n, t in here.items()
        if SLOTS[t.slot].stage != "pack" and not (SLOTS[t.slot].default == n and (t == type(t)() or t.slot in PACED))
    }


def _arms(name: str, base: Recipe, asked: dict[str, str], scale: str, notes: list[str]) -> dict[str, Recipe]:
    """The recipes that differ from ``base`` by one technique; what cannot be or changes nothing is noted."""
    reference, out = preset(name, "full").shape, {}
    for technique, text in asked.items():
        try:
            if technique in {SLOTS[slot].default for slot in PACED}:
                raise ValueError(f"it fills its slot ({find(technique).slot}) if nothing else does, so it cannot be left out.")
            if technique in {t.name for t in base.techniques}:
                arm = without(base, technique).check()
            else:
                added = parse(text)
                plain = added == find(technique)()  # knobs that are left alone follow the scale
                arm = base.with_(suited(added.rescale(reference, base.shape), base) if plain else added).check()
        except ValueError as error:
            notes.append(f"{technique} is not measured at {scale}: {error}")
            continue
        if arm.hash == base.hash:
            notes.append(f"{technique} is not measured at {scale}: it changes nothing there.")
        else:
            out[technique] = arm
    return out


def measure(found: Rungs, cache: Path) -> dict[str, Pace]:
    """How fast each scale is: a few training steps at each, and all that follows a training at the cheapest.

    What follows a training is taken to grow as a training step does. Processor time of one core is counted, so that other work
    on the machine does not change the plan.

    Args:
        found: of `rungs`.
        cache: the stage cache; the text is prepared there. Nothing that is timed stays in it.
    """
    bases = {rung.scale: rung.base for rung in found.rungs}
    speeds = {scale: _training_pace(base) for scale, base in bases.items()}
    after, first = _after_training(found.rungs[0].base, cache), speeds[found.rungs[0].scale]
    return {scale: Pace(speed, after * max(1.0, first / speed)) for scale, speed in speeds.items()}


def _after_training(recipe: Recipe, cache: Path) -> float:
    """Seconds of everything that follows a training, from a run of a few steps."""
    from golflab.model.data.prepare import prepare
    from golflab.model.run import run

    prepare(recipe.data, recipe.shape.vocabulary, cache / "data")
    short = recipe.with_(tokens=PACE_STEPS * recipe.schedule.batch_tokens)
    with tempfile.TemporaryDirectory(prefix="golflab-pace-") as folder, _one_thread():
        ours = Path(folder) / "cache"
        ours.mkdir()
        (ours / "data").symlink_to((cache / "data").resolve(), target_is_directory=True)
        began = time.process_time()
        record = run(short, None, ours, device="cpu", rungs=False, float_score=False)
        return max(0.0, time.process_time() - began - (record.seconds or 0.0))


def _training_pace(recipe: Recipe) -> float:
    """Tokens per second of a few training steps on noise, on one thread."""
    import torch

    from golflab.model.training.loop import train

    class Noise:
        """Batches of random ids."""

        def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
            rows = recipe.schedule.batch_tokens // recipe.shape.context
            ids = torch.randint(recipe.shape.vocabulary, (rows, recipe.shape.context + 1))
            return ids[:, :-1], ids[:, 1:]

    began: list[float] = []
    short = recipe.with_(tokens=(PACE_STEPS + 1) * recipe.schedule.batch_tokens)
    with _one_thread():
        train(short, Noise(), on_step=lambda point: began.append(time.process_time()))
    return recipe.schedule.batch_tokens * (len(began) - 1) / (began[-1] - began[0])


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one core, as a worker does."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def parameters(rung: Rung) -> int:
    """Of the model that the others are compared with."""
    return parameters_of(rung.base)
