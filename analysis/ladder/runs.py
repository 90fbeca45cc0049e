"""From the runs of a ladder to paired differences: who is compared with whom is read off the runs themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import pandas as pd

from golflab.analysis.ladder.noise import COLUMNS, RUNG, SHARES

NEXT_DURATION = 4.0  # the durations of a ladder are this factor apart
ARMS = ["technique", "on", "scale", "parameters", "tokens_per_parameter", "tokens", "seed"]
ARMS += ["bpb", "trained", "shares_training", "seconds", "bytes"]
NEEDED = ["technique", "on", "scale", *RUNG, "seed", "bpb", "seconds"]


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """A row per technique and rung: what switching the technique on changes, paired by seed.

    Args:
        table: of `golflab.analysis.table.load`.

    Returns:
        see `paired`. Empty where nothing can be compared.
    """
    return paired(arms(table))


def arms(table: pd.DataFrame) -> pd.DataFrame:
    """A row per run of a ladder: on which rung it ran, and by which technique it differs from what it is compared with.

    Runs with the same body, schedule and text are a rung. In a rung, the combination that differs least from all others is what
    they are compared with; of several, as in a rung that has just begun, the one that differs least from those of all rungs.
    A run that differs from it by one technique more, or by one in the place of another, measures what that technique adds; one
    that lacks a technique measures what that one adds to the rest. Other runs are left out.

    Args:
        table: of `golflab.analysis.table.load`.

    Returns:
        technique (empty for what the others are compared with); on, whether the run has it; scale, parameters and
        tokens_per_parameter of the rung; tokens; seed; bpb; trained, whether the experiment trained it; shares_training,
        whether its weights are those of what it is compared with; seconds of its training; bytes of the artifact. Indexed as
        the table.
    """
    done = table[(table["state"] == "complete") & table["bpb"].notna()]
    all_names = {str(names): frozenset(str(names).split()) for names in done["techniques"].drop_duplicates()}
    rungs = [rung for _, rung in done.groupby(_rung_keys(done), dropna=False, sort=False)]
    parts = [_arms_of(rung, all_names) for rung in rungs]
    return pd.concat(parts) if parts else pd.DataFrame(columns=ARMS)


def paired(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per technique and rung: the mean difference over the seeds that ran with the technique and without it.

    Args:
        runs: of `arms`, or such a table read from a file.

    Returns:
        the columns of `golflab.analysis.ladder.noise.checked`, shares_training, and seconds: the training seconds of one seed's
        two runs.

    Raises:
        ValueError: a column is missing.
    """
    if missing := [name for name in NEEDED if name not in runs]:
        raise ValueError(f"ladder: the runs lack {', '.join(missing)}. They need the columns {', '.join(NEEDED)}.")
    rows = [row for _, rung in runs.groupby(RUNG, sort=False) for row in _paired(rung)]
    found = pd.DataFrame(rows, columns=[*COLUMNS, SHARES, "seconds"])
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


def _arms_of(rung: pd.DataFrame, all_names: Mapping[str, frozenset[str]]) -> pd.DataFrame:
    """Of one rung: the rows of `arms`."""
    here = {str(names): all_names[str(names)] for names in rung["techniques"].drop_duplicates()}
    apart = lambda name, others: sum(len(here[name] ^ other) for other in others)
    base = min(here, key=lambda name: (apart(name, here.values()), apart(name, all_names.values())))
    differs = {name: _difference(arm, here[base]) for name, arm in here.items()}
    kept = rung[[differs[str(names)] is not None for names in rung["techniques"]]]
    told = [differs[str(names)] or ("", True) for names in kept["techniques"]]
    parameters = float(rung.loc[rung["techniques"] == base, "parameters"].median())
    out = kept[["tokens", "seed", "bpb", "seconds"]].assign(bytes=kept.get("bytes", np.nan), trained=kept.get("trained", True))
    out = out.assign(shares_training=_shares(kept, rung[rung["techniques"] == base]))
    out = out.assign(technique=[t for t, _ in told], on=[on for _, on in told], scale=_scale(parameters))
    return out.assign(parameters=parameters, tokens_per_parameter=kept["tokens"].astype(float) / parameters)[ARMS]


def _shares(runs: pd.DataFrame, base: pd.DataFrame) -> list[bool]:
    """Whether each run has the training of the base's run with its seed."""
    if "training" not in runs:
        return [False] * len(runs)
    own = dict(zip(base["seed"], base["training"], strict=True))
    return [bool(t) and own.get(seed) == t for seed, t in zip(runs["seed"], runs["training"], strict=True)]


def _difference(arm: Collection[str], base: Collection[str]) -> tuple[str, bool] | None:
    """The one technique by which an arm differs, and whether the arm has it; None if it differs by more."""
    more, less = set(arm) - set(base), set(base) - set(arm)
    if len(more) > 1 or len(less) > 1:
        return None
    return (more.pop(), True) if more else (less.pop(), False) if less else ("", True)


def _paired(rung: pd.DataFrame) -> Iterator[tuple[object, ...]]:
    """Of one rung: the rows of `paired`."""
    own = rung[rung["technique"] == ""].drop_duplicates("seed").set_index("seed")
    for (technique, on), part in rung[rung["technique"] != ""].groupby(["technique", "on"], sort=False):
        runs = part.drop_duplicates("seed").set_index("seed")
        both = runs.index.intersection(own.index)
        if not len(both):
            continue
        delta = (1.0 if on else -1.0) * (runs.loc[both, "bpb"] - own.loc[both, "bpb"]).to_numpy(float)
        se = float(delta.std(ddof=1) / np.sqrt(len(both))) if len(both) > 1 else np.nan
        seconds = float(runs["seconds"].median() + own["seconds"].median())
        place, shares = part.iloc[0], bool(runs[SHARES].all()) if SHARES in runs else False
        where = (place["scale"], float(place["parameters"]), float(place["tokens_per_parameter"]))
        yield technique, *where, float(delta.mean()), se, len(both), shares, seconds


def _scale(parameters: float) -> str:
    """A scale as its number of parameters, which is all that a run's record says of it."""
    return f"{parameters / 1e6:.2g} M" if parameters >= 1e6 else f"{parameters / 1e3:.0f} k"
