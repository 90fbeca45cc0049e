"""`golflab variants`: many artifacts of one training, from the arguments of the command line to a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from golflab.model.compression.finish import calibration
from golflab.model.network.layers import parameters_of
from golflab.model.network.weights import load_weights
from golflab.model.recipe import Recipe
from golflab.model.run import OnStep, Training, training
from golflab.model.variants import CHOICES, TextScorer, Variant, combinations, ranked, variants
from golflab.search.cli.run_one import progress_bar, share_done
from golflab.search.experiment.checks import writable

SCORE_TOKENS = 32_768


@dataclass(frozen=True)
class Table:
    """The result of `finish`.

    Attributes:
        recipe: the training's recipe.
        training: its key in the stage cache.
        bpb_float: bits per byte before quantisation, on the text all rows are scored on.
        tokens: targets of that text.
        stretches: parts of that text; errors come from paired differences over them.
        rows: of `golflab.model.variants.ranked`; ``pandas.DataFrame(table.rows)`` is the table.
        skipped: reason -> number of impossible combinations.
    """

    recipe: Recipe
    training: str
    bpb_float: float
    tokens: int
    stretches: int
    rows: list[dict[str, Any]]
    skipped: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """What `golflab variants --json` prints."""
        body = {"preset": self.recipe.name, "recipe": self.recipe.hash, "seed": self.recipe.seed, "training": self.training}
        body |= {"limit": self.recipe.limit, "bpb_float": self.bpb_float, "tokens": self.tokens}
        body |= {"stretches": self.stretches}
        return body | {"skipped": self.skipped, "variants": self.rows}


def choices_of(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The default grid with slots replaced as the command line says: ``bits=int6_rows:table=6,mlp=5,int8_rows``.

    A comma followed by ``knob=`` goes on with the technique before it; ``none`` leaves a slot empty or at its default.

    Raises:
        ValueError: it does not read as ``slot=technique,technique``.
    """
    chosen = dict(CHOICES)
    for word in words:
        slot, equals, rest = word.partition("=")
        if not equals or not rest:
            raise ValueError(f"--choice {word!r} must read like bits=int8_rows,int6_rows:table=6 or prune=none,magnitude.")
        named: list[str] = []
        for part in rest.split(","):
            if named and "=" in part and ":" not in part:
                named[-1] += f",{part}"
            else:
                named.append(part)
        chosen[slot.strip()] = tuple("" if name == "none" else name for name in named)
    return chosen


def finish(
    recipe: Recipe,
    cache: Path,
    choices: dict[str, tuple[str, ...]] | None = None,
    score_tokens: int = SCORE_TOKENS,
    on_step: OnStep | None = None,
    on_variant: Callable[[int, int, Variant], None] | None = None,
) -> Table:
    """Train a recipe once, or find its training, and finish it in every combination of the choices.

    Args:
        recipe: what is trained; its split is what is scored on.
        cache: the stage cache.
        choices: slot -> techniques; None for `golflab.model.variants.CHOICES`.
        score_tokens: how many tokens of the split to score.
        on_step: called after each point of the training curve.
        on_variant: called with (done, of how many, the newest).

    Raises:
        ValueError: the recipe cannot be trained, or no combination is possible.
    """
    recipes, skipped = possible(combinations(recipe, choices))
    done = training(recipe, cache, on_step=on_step)
    split, data = recipe.data.split, done.data
    ruler = TextScorer(done.model, recipe, data.split(split), data.tokenizer, score_tokens, counts=data.counts.get(split))
    floats = ruler(done.weights)
    found: list[Variant] = []
    calibrate = _calibration(done)
    for variant in variants(done.weights, parameters_of(done.model), recipes, calibrate, ruler):
        found.append(variant)
        if on_variant is not None:
            on_variant(len(found), len(recipes), variant)
    return Table(recipe, done.key, floats.bpb, ruler.text.inputs, int(ruler.parts[-1]) + 1, ranked(found, floats), skipped)


def finish_watched(
    recipe: Recipe, runs: Path, folder: Path, choices: dict[str, tuple[str, ...]], score_tokens: int, console: Console
) -> Table:
    """`finish` with a progress bar on standard error.

    Raises:
        ValueError: ``folder``, which will get the results, cannot be written; or see `finish`.
    """
    writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with progress_bar(console) as progress:
        bar = progress.add_task("training", total=1.0)

        def step(point: dict[str, Any]) -> None:
            progress.update(bar, completed=share_done(recipe, point))

        def artifact(done: int, total: int, newest: Variant) -> None:
            progress.update(bar, completed=done / total, description=f"artifact {done} of {total}")

        return finish(recipe, runs / "cache", choices, score_tokens, step, artifact)


def possible(recipes: Any) -> tuple[list[Recipe], dict[str, int]]:
    """The possible recipes, and the reasons why the others are not.

    Raises:
        ValueError: none is possible.
    """
    good, skipped = [], dict[str, int]()
    for recipe in recipes:
        try:
            good.append(recipe.check())
        except ValueError as reason:
            skipped[str(reason)] = skipped.get(str(reason), 0) + 1
    if not good:
        raise ValueError(f"variants: none of these combinations is possible: {next(iter(skipped), 'no technique is named.')}")
    return good, skipped


def _calibration(done: Training) -> Callable[[Recipe], dict[str, Tensor] | None]:
    """A function that collects the Hessians of the trained weights, which some roundings need."""

    def calibrate(recipe: Recipe) -> dict[str, Tensor] | None:
        load_weights(done.model, done.weights)
        return calibration(recipe, done.model, done.data.train)

    return calibrate
