"""Which recipes share a training: the ones that differ only after it."""

from __future__ import annotations

from golflab.model.recipe import Recipe
from golflab.model.slots import SLOTS
from golflab.model.stages import train_key
from golflab.model.system.machine import Conditions
from golflab.model.technique import find
from golflab.spaces.space import Space


def training_key(recipe: Recipe) -> str:
    """Names the training a recipe needs: recipes that share it train once, on one kind of machine."""
    return train_key(recipe, f"{recipe.data.corpus} {recipe.data.tokenizer}", Conditions("cpu", "float32"))


def later(space: Space) -> list[str]:
    """Parameters of a space that act after training and cost seconds: averages, quantisers, packers, evaluators.

    Training at test time is left out: it acts after training, and may cost as much. So are an average's knobs: every training
    keeps the averages as they come, and would have to be repeated for others.
    """
    choices = [name for name, rivals in space.choices.items() if all(_cheap(rival) for rival in rivals)]
    return [*choices, *(knob for knob in space.distributions() if "." in knob and _knob_is_cheap(knob))]


def _cheap(technique: str) -> bool:
    slot = SLOTS[find(technique).slot]
    return slot.name == "average" or (slot.stage in ("quantise", "pack", "evaluate") and slot.name != "adapt")


def _knob_is_cheap(parameter: str) -> bool:
    owner = parameter.partition(".")[0]
    return owner != "shape" and _cheap(owner) and find(owner).slot != "average"
