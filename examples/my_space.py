"""A space of one's own: ``golflab search --space examples.my_space:SPACE`` from this repository, or copy it anywhere."""

from golflab.spaces.presets import preset
from golflab.spaces.space import Space

SPACE = Space(
    "mine",
    preset("baseline", "proxy"),
    techniques=("xsa", "smear_gate", "ema", "swa", "int6_rows", "int5_rows"),  # ema and swa share a slot: one choice
    knobs=("ema.*", "xsa.last"),
    shape={"layers": (4, 5, 6)},
)
