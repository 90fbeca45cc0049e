"""How runs were chosen, and tables joined by pandas: `pandas.concat` loses the attributes of a table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd


def chosen_by_search(experiment: Mapping[str, Any]) -> bool:
    """Whether an experiment proposed its recipes by looking at earlier scores: it had a space, and no design."""
    facts = {**experiment.get("options", {}), **experiment}
    return bool(facts.get("space")) and not facts.get("design") and not facts.get("planned")


def looked_at_scores(table: pd.DataFrame) -> bool:
    """Whether runs of a table were chosen by looking at earlier scores."""
    facts = table.attrs.get("experiment")
    if "adaptive" in table and (facts is None or "experiments" in facts):
        return bool(table["adaptive"].any())
    return chosen_by_search(facts or {})


def whole(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it is or, if pandas joined several experiments, as similar as possible to `load([a, b])`.

    Joined tables have no attributes. A technique's column is missing for the runs of an experiment in which it did not vary.
    The column ``techniques`` says which were on, so these columns are computed again. A knob or a field of the shape that is
    known only for some runs is left out. A warning says so.

    Raises:
        ValueError: an experiment's runs do not say which techniques were on.
    """
    if "experiment" not in table or not _joined(table):
        return table
    names = [str(name) for name in pd.unique(table["experiment"].dropna())]
    listed = ", ".join(names)
    if "techniques" not in table or table["techniques"].isna().any():
        raise ValueError(f"This table joins runs of {listed} and does not say which techniques were on. Use load([...]).")
    on = [set(text.split()) for text in table["techniques"]]
    known, always = set().union(*on), set.intersection(*on) if on else set()
    out = table.drop(columns=[c for c in table.columns if str(c) in known])
    flags = {name: np.array([name in here for here in on]) for name in sorted(known - always)}
    partly = [str(c) for c in out.columns if _partly_known(out, str(c), on)]
    out = pd.concat([out.drop(columns=partly), pd.DataFrame(flags, index=out.index)], axis=1)
    out.attrs = {"experiment": {"name": " + ".join(names), "experiments": {name: {} for name in names}}}
    out.attrs |= {"always": sorted(always), "machines": {}, "damaged": []}
    left = f" {', '.join(partly)}: known for some runs only, and left out." if partly else ""
    warnings.warn(
        f"This table of {listed} was not made by load([...]).{left} Use load([...]): it also finds what is "
        "constant within each experiment but differs between them.",
        stacklevel=3,
    )
    return out


def _joined(table: pd.DataFrame) -> bool:
    """Whether a table has runs of more experiments than its attributes."""
    here = set(table["experiment"].dropna())
    return len(here) > 1 and not here <= set(table.attrs.get("experiment", {}).get("experiments", ()))


def _partly_known(table: pd.DataFrame, column: str, on: list[set[str]]) -> bool:
    """Whether a knob is missing for runs that have its technique on, or a field of the shape for any run."""
    owner, dot, _ = column.partition(".")
    if not dot or owner in ("schedule", "stage"):  # the schedule is part of the condition, and stages are no covariates
        return False
    missing = table[column].isna().to_numpy()
    return bool((missing & np.array([owner == "shape" or owner in here for here in on])).any())
