"""Scales: small bodies in which presets keep their proportions, and how long to train them.

| scale | baseline's parameters | body | for |
|---|---:|---|---|
| nano | 45 thousand | 4 layers of width 32, 512 token ids, 128 positions | seconds to minutes of a CPU core |
| micro | 149 thousand | 4 layers of width 64, 512 token ids, 128 positions | minutes of a CPU core |
| proxy | 0.7 million | 5 layers of width 128, 1,024 token ids, 256 positions | minutes to hours of a CPU core |
| small | 3.5 million | 7 layers of width 256, 1,024 token ids, 512 positions | one GPU |
| full | 17 million | the challenge's | the challenge's machine |

How a preset becomes small:

* depth, MLP width over width, key/value heads over heads and vocabulary keep their ratio to the baseline's, rounded; a
  vocabulary far above the baseline's keeps a quarter of it, but no fewer ids than the scale's;
* width, heads and context are the scale's;
* knobs that count something follow by their technique's ``rescale``;
* the byte limit is by preset, so that it binds as at full scale (`golflab.spaces.limits`).

A duration is a number of training tokens per parameter. The challenge trains on 200 to 400. A short run needs another
optimiser: `paced` makes it, and experiments use it. `golflab.spaces.presets.preset` itself keeps what was published.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from golflab.model.network.blueprint import blueprint
from golflab.model.recipe import Recipe
from golflab.model.shape import Schedule, Shape
from golflab.model.technique import Technique
from golflab.spaces.limits import LIMITS

LEAST_MOMENTUM = 0.5  # the least that the optimisers' knobs allow
BOTH = "duration={} and tokens={}: both say how long a run is; give one of them."
PACED = ("matrix_update", "schedule")  # slots of what is suited to the number of steps
LONG, MOST_WARMDOWN = 3_000, 0.5  # steps up to which the warmdown was measured, and the most of a run that it may take
DURATIONS = (5.0, 20.0, 80.0, 320.0)  # training tokens per parameter

# The challenge: ten minutes on its machine, batches of 524,288 tokens, 16,000,000 decimal bytes.
FULL_SHAPE = Shape(layers=9, width=512, heads=8, kv_heads=4, hidden=1024, vocabulary=1024, context=1024)
FULL_SCHEDULE = Schedule(tokens=None, seconds=600.0, batch_tokens=524_288, micro_tokens=65_536)
FULL_LIMIT = 16_000_000


@dataclass(frozen=True)
class Scale:
    """A body, and the schedule of a run that names no duration.

    Attributes:
        shape: the baseline's.
        schedule: its batch, and its tokens where none are asked for.
    """

    shape: Shape
    schedule: Schedule


def _schedule(tokens: int, batch: int) -> Schedule:
    return Schedule(tokens=tokens, batch_tokens=batch, micro_tokens=batch)


SCALES: dict[str, Scale] = {
    # A first search: 144 steps, 6.5 tokens a parameter. Four bodies were measured for it: docs/first_search.md.
    "nano": Scale(
        Shape(layers=4, width=32, heads=2, kv_heads=1, hidden=64, vocabulary=512, context=128), _schedule(294_912, 2_048)
    ),
    "micro": Scale(
        Shape(layers=4, width=64, heads=4, kv_heads=2, hidden=128, vocabulary=512, context=128), _schedule(745_472, 2_048)
    ),
    "proxy": Scale(
        Shape(layers=5, width=128, heads=4, kv_heads=2, hidden=256, vocabulary=1024, context=256), _schedule(524_288, 4_096)
    ),
    "small": Scale(
        Shape(layers=7, width=256, heads=4, kv_heads=2, hidden=512, vocabulary=1024, context=512),
        _schedule(17_563_648, 16_384),
    ),
    "full": Scale(FULL_SHAPE, FULL_SCHEDULE),
}


def at_scale(recipe: Recipe, scale: str) -> Recipe:
    """Return a full-scale ``recipe`` as it is, or a small one: the same techniques and proportions in a small body.

    Raises:
        ValueError: the scale is none of `SCALES`.
    """
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r} must be one of {', '.join(SCALES)}.")
    if scale == "full":
        return recipe
    small = SCALES[scale]
    shape = _shrunk(recipe.shape, small.shape)
    techniques = tuple(t.rescale(recipe.shape, shape) for t in recipe.techniques)
    made = dataclasses.replace(recipe, shape=shape, schedule=small.schedule, techniques=techniques)
    return made.with_(limit=_limit(recipe, made, scale))


def at_duration(recipe: Recipe, tokens_per_parameter: float) -> Recipe:
    """The recipe trained on so many tokens per parameter of its model, in whole batches. `paced` suits its optimiser to that.

    Raises:
        ValueError: the duration is not above 0, or shorter than one batch.
    """
    if not 0 < tokens_per_parameter < float("inf"):
        raise ValueError(f"duration: tokens_per_parameter={tokens_per_parameter!r} must be a number above 0.")
    batch, wanted = recipe.schedule.batch_tokens, tokens_per_parameter * parameters_of(recipe)
    if wanted < batch:
        raise ValueError(
            f"duration: tokens_per_parameter={tokens_per_parameter:g} is {wanted:.0f} tokens here, less than one batch of "
            f"{batch:,}. Ask for a longer duration."
        )
    return recipe.with_(tokens=round(wanted / batch) * batch, seconds=None)


def of_length(recipe: Recipe, duration: float | None, tokens: int | None) -> Recipe:
    """The recipe with the length that a user asked for: a duration in tokens per parameter, or tokens, or neither.

    Raises:
        ValueError: both were given, or the duration cannot be.
    """
    if duration is None:
        return recipe
    if tokens is not None:
        raise ValueError(BOTH.format(duration, tokens))
    return at_duration(recipe, duration)


def paced(recipe: Recipe) -> Recipe:
    """The recipe with an optimiser and a schedule that suit its number of steps; one bounded by seconds stays as it is.

    Published optimisers were made for about 10,000 steps. See `suited` for the rule. Applied twice, it changes nothing more.
    """
    mine = [t for t in recipe.all_techniques() if t.slot in PACED]
    changed = [new for old in mine if (new := suited(old, recipe)) != old]
    return recipe.with_(*changed) if changed else recipe


def suited(technique: Technique, recipe: Recipe) -> Technique:
    """The technique with knobs that suit the recipe's number of steps.

    * Matrices' learning rate: at least 0.65 / √steps, for steps from 100 on.
    * Matrices' momentum: it averages over ½·√steps steps at most with batches of 2,048 tokens, and over √steps with the
      challenge's 524,288; between them by a power of the batch. That is 1 / (1 − momentum).
    * Warmdown: half of the run at most, in runs of fewer than 3,000 steps.

    The momentum's warm-up and the averages of weights are shares of the run already. The rates of tables and scales
    stay. Measured by ``benchmarks/rates.py``; docs/ladder.md has the sweep.
    """
    steps, batch = recipe.schedule.steps, recipe.schedule.batch_tokens
    if steps is None:
        return technique
    knobs = technique.settings()
    if technique.name == "warmdown" and steps < LONG and knobs["fraction"] > MOST_WARMDOWN:
        return technique._with(fraction=MOST_WARMDOWN)
    if technique.slot != "matrix_update" or not {"lr", "momentum", "momentum_start"} <= set(knobs):
        return technique
    horizon = 0.5 * steps**0.5 * (batch / 2_048) ** 0.125
    momentum = min(knobs["momentum"], max(LEAST_MOMENTUM, round(1 - 1 / max(1.0, horizon), 3)))
    rate = max(knobs["lr"], round(0.65 / max(100, steps) ** 0.5, 4))
    return technique._with(lr=rate, momentum=momentum, momentum_start=min(knobs["momentum_start"], momentum))


def without(recipe: Recipe, *names: str) -> Recipe:
    """The recipe without these techniques. If it is `paced`, so are the defaults that take their place."""
    made = recipe.without(*names)
    return paced(made) if paced(recipe) == recipe else made


def parameters_of(recipe: Recipe) -> int:
    """How many parameters the recipe's model has."""
    return sum(info.count for info in blueprint(recipe))


def _limit(full: Recipe, made: Recipe, scale: str) -> int:
    """The preset's own limit at this scale; of any other recipe, the share of the bytes that its parameters are."""
    if full.name in LIMITS and full.limit == FULL_LIMIT:
        return LIMITS[full.name][scale]
    count = parameters_of(full)
    return max(1, round(full.limit * parameters_of(made) / count)) if count else full.limit


def _shrunk(shape: Shape, small: Shape) -> Shape:
    """A small body with ``shape``'s proportions to the baseline's: depth, MLP width, KV heads, vocabulary."""
    full = FULL_SHAPE
    vocabulary = shape.vocabulary * small.vocabulary // full.vocabulary
    return dataclasses.replace(
        shape,
        layers=round(shape.layers * small.layers / full.layers),
        width=small.width,
        heads=small.heads,
        kv_heads=max(1, small.heads * shape.kv_heads // shape.heads),
        hidden=round(shape.hidden / shape.width * small.width),
        vocabulary=vocabulary if vocabulary <= small.vocabulary else max(small.vocabulary, vocabulary // 4),
        context=small.context,
    )
