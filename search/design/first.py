"""A first search, sized for this machine: a ranked report in about four minutes.

A few seconds of training measure the speed of the machine. Then the largest design of a short list is taken that can be done in
the time. Each design identifies all effects that it reports. On a slow machine the smallest design is taken, and it runs to its
end: a design is limited by its runs, never by the time.
"""

from __future__ import annotations

import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golflab.model.recipe import Recipe
from golflab.model.system.wording import number_of
from golflab.search.design import matrices as designs
from golflab.search.design.power import detectable
from golflab.spaces.catalogue import FIRST
from golflab.spaces.space import Space

# Further ways to finish every training. Codecs change only bytes; a clip and a rounding are compared at few bits.
FINISH = (
    *("int6_rows", "int5_rows", "int4_rows", "mse_clip@int5_rows", "gptq@int5_rows", "ema", "swa", "sliding_window"),
    *("zstd_codec", "lzma_codec"),
)
NOISE = 0.008  # standard deviation of one run at the scale `nano`, bits per byte, interactions included: docs/first_search.md
MINUTES = 4.2
# Bytes. Chosen so that most combinations of the space fit and the largest does not, which shows what a refusal looks like.
LIMIT = 57_000
PACE_STEPS = 16
STARTING = 25.0  # seconds that Ray and its workers need to start, on a core that trains 20,000 tokens of `nano` per second
STARTING_PACE = 20_000.0


Blocks = list[list[designs.Combination]]  # the runs of a design by the seed they share


@dataclass(frozen=True)
class Design:
    """A design that a first search may run.

    Its runs are blocked by seed: in each block every technique is on in half of the runs, so that the effect of the seed
    cancels. The effect of a technique differs between seeds, too. With a single seed this could not be seen, and errors would
    be too small.

    Attributes:
        name: of the design in the literature.
        techniques: how many vary, the first of `golflab.spaces.catalogue.FIRST`.
        runs: of the design.
        blocks: number of seeds; each has an equal share of the runs.
        build: names, number of runs and of blocks -> combinations by block.
        proposals: trials of the search that follows.
        seeds: fresh seeds for the comparison of the best recipe with the preset.
    """

    name: str
    techniques: int
    runs: int
    blocks: int
    build: Callable[[Sequence[str], int, int], Blocks]
    proposals: int
    seeds: int

    @property
    def total(self) -> int:
        """Trainings in all."""
        return self.runs + self.proposals + 2 * self.seeds

    @property
    def names(self) -> tuple[str, ...]:
        """The techniques that vary."""
        return FIRST[: self.techniques]

    @property
    def df(self) -> int:
        """Degrees of freedom of the error."""
        return self.runs - self.techniques - self.blocks

    @property
    def smallest(self) -> float:
        """Smallest detectable effect (5 % level, 80 % power), bits per byte."""
        return 2 * NOISE / math.sqrt(self.runs) * detectable(self.df)

    def plan(self, preset: Recipe, space: Space) -> list[Recipe]:
        """The design's recipes, the preset first. Its techniques have the knobs that ``space`` gives them."""
        off, made = dict.fromkeys(FIRST, False), dict[str, Recipe]()
        for block, combinations in enumerate(self.build(self.names, self.runs, self.blocks)):
            for on in combinations:
                recipe = space.recipe(space.params(preset) | off | dict.fromkeys(on, True)).with_(seed=preset.seed + block)
                made[recipe.hash] = recipe
        return sorted(made.values(), key=lambda r: r.hash != preset.hash)


def _folded(names: Sequence[str], runs: int, blocks: int) -> Blocks:
    """Folded Plackett-Burman. A run and its mirror image stay together; the one with everything off is in the first block."""
    rows = designs.folded_plackett_burman(_padded(names, runs // 2 - 1))
    couples = [[on & frozenset(names) for on in rows[k : k + 2]] for k in range(0, runs, 2)]
    couples.sort(key=lambda couple: frozenset() not in couple)
    return [[on for couple in couples[block::blocks] for on in couple] for block in range(blocks)]


def _unfolded(names: Sequence[str], runs: int, blocks: int) -> Blocks:
    """Plackett-Burman, each run turned into its opposite, so that one has everything off; a spare column tells two blocks."""
    columns = _padded(names, runs - 1)
    rows = designs.plackett_burman(columns)
    return [[frozenset(names) - on for on in rows if (columns[-1] in on) == first] for first in (True, False)]


def _padded(names: Sequence[str], columns: int) -> list[str]:
    """Names for all columns of a design; those of the spare ones are nobody's."""
    return [*names, *(f"spare {k}" for k in range(len(names), columns))]


# From the largest to the smallest.
DESIGNS = (
    Design("folded Plackett-Burman", 6, 24, 3, _folded, 6, 3),
    Design("folded Plackett-Burman", 5, 16, 2, _folded, 4, 2),
    Design("Plackett-Burman", 5, 12, 2, _unfolded, 3, 2),
    Design("folded Plackett-Burman", 3, 8, 2, _folded, 2, 1),
)


@dataclass(frozen=True)
class Pace:
    """The speed of this machine.

    Attributes:
        seconds_per_run: of a whole run, training and everything after it.
        workers: runs at the same time.
        tokens_per_second: of one worker's training.
    """

    seconds_per_run: float
    workers: int
    tokens_per_second: float

    def minutes(self, design: Design) -> float:
        """Expected minutes for a design, its search and the confirmation."""
        rounds = sum(math.ceil(n / self.workers) for n in (design.runs + design.proposals, 2 * design.seeds))
        starting = STARTING * max(1.0, STARTING_PACE / self.tokens_per_second)
        return (starting + rounds * self.seconds_per_run) / 60

    def choose(self, minutes: float = MINUTES) -> Design:
        """The largest design that can be done in ``minutes``, or the smallest if none can."""
        return next((design for design in DESIGNS if self.minutes(design) <= minutes), DESIGNS[-1])


def measure(recipe: Recipe, cache: Path, finish: Sequence[str], workers: int) -> Pace:
    """Time a few training steps and everything after a training, in as many processes as there will be workers.

    Args:
        recipe: the preset. Its data are prepared in ``cache`` first; this is not timed.
        cache: the stage cache. The results of the measurement are not stored there.
        finish: what every training is finished with.
        workers: processes.
    """
    from golflab.model.data.prepare import prepared

    prepared(recipe, cache / "data")
    steps = recipe.schedule.steps or PACE_STEPS
    short = recipe.with_(tokens=recipe.schedule.batch_tokens * min(PACE_STEPS, steps))
    context = multiprocessing.get_context("spawn")  # a forked process would inherit torch in a broken state
    with tempfile.TemporaryDirectory(prefix="golflab-pace-") as folder:
        ours = Path(folder) / "cache"
        ours.mkdir()
        (ours / "data").symlink_to((cache / "data").resolve(), target_is_directory=True)
        with context.Pool(workers) as pool:
            asked = [(short.with_(seed=k).to_json(), str(ours), tuple(finish)) for k in range(workers)]
            timed = pool.starmap(_timed, asked)
    per_step = max(training for training, _ in timed) / (short.schedule.steps or 1)
    after = max(rest for _, rest in timed)
    return Pace(steps * per_step + after, workers, recipe.schedule.batch_tokens / per_step)


def _timed(body: dict[str, Any], cache: str, finish: tuple[str, ...]) -> tuple[float, float]:
    """Seconds of training and of everything after it, in a new process. A shorter run comes first, to warm up."""
    import torch

    from golflab.model.run import run
    from golflab.model.ways import Way

    torch.set_num_threads(1)
    recipe, ways = Recipe.from_json(body), [Way.parse(text) for text in finish]
    for short in (recipe.with_(tokens=2 * recipe.schedule.batch_tokens), recipe):
        began = time.perf_counter()
        record = run(short, None, Path(cache), ways=ways, rungs=False, float_score=False)
        training = record.seconds or 0.0
        rest = time.perf_counter() - began - training
    return training, rest


def announce(pace: Pace, design: Design, preset: Recipe, minutes: float = MINUTES) -> list[str]:
    """What will run and what it can show, in sentences, before anything starts."""
    lines = [
        f"This machine trains {pace.tokens_per_second:,.0f} tokens per second on each of {number_of(pace.workers, 'worker')}: "
        f"a run takes about {pace.seconds_per_run:.0f} s.",
        f"1. Design: {design.runs} runs ({design.name}) of {design.techniques} techniques: {', '.join(design.names)}. Smallest "
        f"detectable effect: {design.smallest:.4f} bits per byte (5 % level, 80 % power, if one run's noise is {NOISE}).",
        f"2. Each training is finished in {len(FINISH)} further ways, which need no training: {', '.join(FINISH)}.",
        f"3. Search: {design.proposals} proposals around the best combination, within {preset.limit:,} bytes.",
        f"4. Confirmation: the best recipe against the preset, {number_of(design.seeds, 'fresh seed')} each, on text that no "
        "search sees.",
    ]
    expected = pace.minutes(design)
    if expected > minutes:
        lines.append(
            f"This machine needs about {expected:.0f} minutes for this. It is the smallest plan, and it will run to its end."
        )
    else:
        lines.append(f"{design.total} trainings, about {expected:.1f} minutes.")
    return lines
