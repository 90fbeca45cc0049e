"""What the runs of a search will be able to show, before any of them starts."""

from __future__ import annotations

import math

from golflab.model.system.wording import number_of
from golflab.search.design.power import detectable, usual_noise
from golflab.search.engine.standing import UNBOUNDED
from golflab.search.experiment.options import Options
from golflab.spaces.space import Space


def prospects(options: Options, space: Space) -> list[str]:
    """What this number of trials can show about the techniques of a space, in sentences.

    The numbers hold for a balanced set of runs. A search tries good combinations more often than others, so the errors of its
    effects are larger. The report says how large.

    Args:
        options: of the search.
        space: what varies.
    """
    count = sum(len(alternatives) for alternatives in space.choices.values())
    if not count:
        return ["No technique varies in this space, so the report will show no effects."]
    need, ablation = count + 2, f"`golflab ablate {options.preset or 'baseline'} --design screen`"
    if options.trials >= UNBOUNDED:
        return [f"Techniques that vary: {count}. Their effects can be told apart after {need} complete runs."]
    if options.trials < need:
        return [
            f"{number_of(options.trials, 'trial')} cannot tell the effects of {number_of(count, 'technique')} apart: at least "
            f"{need} complete runs are needed. The search will still look for a good combination. Ask for more --trials, or "
            f"measure effects with {ablation}."
        ]
    noise = usual_noise(options.recipe())
    smallest = 2 * noise / math.sqrt(options.trials) * detectable(max(1, options.trials - count - 1))
    return [
        f"{number_of(options.trials, 'trial')} of {number_of(count, 'technique')}: the smallest detectable effect is at least "
        f"{smallest:.4f} bits per byte (5 % level, 80 % power, if one run's noise is {noise:g}). {ablation} measures effects "
        "without a search's bias."
    ]


def expectations(options: Options, space: Space) -> list[str]:
    """The effects that a search expects before any trial, in sentences; nothing without a prior."""
    if not options.prior:
        return []
    varied = sum(len(rivals) for rivals in space.choices.values())
    told = ", ".join(f"{name} {mean:+.4f} ± {sd:.4f}" for name, mean, sd in sorted(options.prior, key=lambda row: row[1]))
    return [
        f"The search expects effects of {len(options.prior)} of {varied} techniques before it starts (bits per byte, ± one "
        f"standard deviation): {told}. Its trials correct this."
    ]
