"""From the runs of a ladder to paired differences: who is compared with whom is read off the runs themselves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from golflab.analysis.ladder.noise import COLUMNS

NEXT_DURATION = 4.0  # the durations of a ladder are this factor apart


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """A row per technique and rung: what switching the technique on changes, paired by seed.

    Runs with the same body, schedule and text are a rung. In a rung, the combination that differs least from all others is what
    they are compared with. A run that differs from it by one technique more, or by one in the place of another, measures what
    that technique adds; one that lacks a technique measures what that one adds to the rest.

    Args:
        table: of `golflab.analysis.table.load`.

    Returns:
        the columns of `golflab.analysis.ladder.noise.checked`, and seconds: the training seconds of one seed's two runs. Empty
        where nothing can be compared.
    """
    done = table[(table["state"] == "complete") & table["bpb"].notna()]
    rows = [row for _, rung in done.groupby(_rung_keys(done), dropna=False, sort=False) for row in _differences(rung)]
    found = pd.DataFrame(rows, columns=[*COLUMNS, "seconds"])
    return found.sort_values(["technique", "parameters", "tokens_per_parameter"], ignore_index=True)


def candidates(found: pd.DataFrame) -> pd.DataFrame:
    """Rungs that could be run next: those that ran, and at every scale one duration longer. Seconds grow with the tokens."""
    rungs = found.groupby(["scale", "parameters", "tokens_per_parameter"], as_index=False)["seconds"].median()
    longest = rungs.sort_values("tokens_per_parameter").groupby("scale", as_index=False).last()
    longer = longest.assign(
        tokens_per_parameter=longest["tokens_per_parameter"] * NEXT_DURATION, seconds=longest["seconds"] * NEXT_DURATION
    )
    return pd.concat([rungs, longer], ignore_index=True)


def _rung_keys(table: pd.DataFrame) -> list[str]:
    """Columns that are the same in all runs of a rung."""
    return ["condition", *(name for name in table.columns if str(name).startswith(("shape.", "schedule.")))]


def _differences(rung: pd.DataFrame) -> Iterator[tuple[object, ...]]:
    """Of one rung: the rows of `differences`."""
    arms = {names: frozenset(names.split()) for names in rung["techniques"].drop_duplicates()}
    base = min(arms, key=lambda name: sum(len(arms[name] ^ other) for other in arms.values()))  # the first of several
    own = rung[rung["techniques"] == base].drop_duplicates("seed").set_index("seed")
    parameters = float(own["parameters"].median())
    duration = float(own["tokens"].median()) / parameters
    for name, arm in arms.items():
        more, less = arm - arms[base], arms[base] - arm
        if len(more) > 1 or len(less) > 1 or name == base:
            continue
        technique, sign = (next(iter(more)), 1.0) if more else (next(iter(less)), -1.0)
        runs = rung[rung["techniques"] == name].drop_duplicates("seed").set_index("seed")
        both = runs.index.intersection(own.index)
        if not len(both):
            continue
        delta = sign * (runs.loc[both, "bpb"] - own.loc[both, "bpb"]).to_numpy(float)
        se = float(delta.std(ddof=1) / np.sqrt(len(both))) if len(both) > 1 else np.nan
        seconds = float(runs["seconds"].median() + own["seconds"].median())
        yield technique, _scale(parameters), parameters, duration, float(delta.mean()), se, len(both), seconds


def _scale(parameters: float) -> str:
    """A scale as its number of parameters, which is all that a run's record says of it."""
    return f"{parameters / 1e6:.2g} M" if parameters >= 1e6 else f"{parameters / 1e3:.0f} k"
