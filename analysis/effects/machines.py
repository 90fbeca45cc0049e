"""The spread between machines: how much the same code and seeds score differently elsewhere."""

from __future__ import annotations

import math
from typing import Any

from golflab.analysis.effects.model import Model
from golflab.analysis.inference.variance_component import group_spread


def machine_spread(model: Model) -> dict[str, Any]:
    """Estimate the standard deviation of the score between machines, as random effects.

    Returns:
        machines (their number; 1 if the records do not name any), sd, low, high (95 %; NaN if unknown), why (the reason, if
        it is unknown).
    """
    rows = model.rows
    count = int(rows["machine"].nunique()) if "machine" in rows else 1
    at = [k for k, label in enumerate(model.fit.design.names) if label.startswith("machine ")]
    shared = "training" in rows and rows["training"].replace("", None).dropna().duplicated().any()
    why = "all runs ran on one machine" if count < 2 else "runs share trainings" if shared else ""
    why = why or ("" if at else "the runs are too few to compare them within each machine")
    sd, low, high = (math.nan,) * 3 if why else group_spread(model.gram(model.fit.design), at, len(rows))
    return {"machines": count, "sd": sd, "low": low, "high": high, "why": why}


def machines_in_words(spread: dict[str, Any]) -> str:
    """The spread in a sentence."""
    if math.isnan(spread["sd"]):
        return f"The spread between machines is unknown: {spread['why'] or 'no degree of freedom is left'}."
    return (
        f"Between the {spread['machines']} machines the score varies with a standard deviation of {spread['sd']:.2g} bits per "
        f"byte (95 %: {spread['low']:.2g} to {spread['high']:.2g})."
    )
