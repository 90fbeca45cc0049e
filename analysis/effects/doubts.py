"""What should make one hesitate: reasons to doubt a row of the contributions, and what holds for the whole table, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from golflab.analysis.effects.machines import machine_spread
from golflab.analysis.effects.machines import said as said_of_machines
from golflab.analysis.effects.model import Model


def notes(model: Model, unplanned: int, adaptive: bool) -> list[str]:
    """What holds for the whole table, in sentences.

    Args:
        model: of the effects.
        unplanned: complete runs that are not used, because a search chose them looking at scores.
        adaptive: whether the runs that are used were chosen so.
    """
    said, spread = [*model.notes], machine_spread(model)
    if spread["machines"] > 1:
        said.append(said_of_machines(spread))
    if unplanned > 0:
        said.append(
            f"Effects come from the {len(model.rows)} runs that were planned before any score was known. {unplanned} further "
            "runs were chosen by looking at scores and are left out here."
        )
    if "seed" in model.rows and (model.rows["seed"] == model.rows["seed"].iloc[0]).all():
        said.append(
            "All runs share one seed. The errors say how sure an effect is for this seed; for another it may differ by more."
        )
    if adaptive:
        said.append(
            "A search chose these runs by looking at earlier scores. Techniques that scored badly at first were tried less "
            "often, and together with worse ones, so effects are biased, mostly toward the first scores. `needed_runs` (and "
            "the end of the report) lists the runs that would remove the bias."
        )
    return said


def doubt(model: Model, row: Any) -> str:
    """All reasons to doubt a row, in words."""
    name, delta = row.technique, row.delta_bpb
    fit, at = model.fit, model.columns[row.technique]
    told = []
    if at in fit.aliases:
        others = row.aliases.split(", ")
        named = row.aliases if len(others) <= 4 else f"{len(others)} others; more runs are needed"
        return f"not identifiable: these runs cannot tell it apart from {named}"
    if not np.isfinite(row.se):
        return f"no error can be given: {len(model.rows)} runs leave no degree of freedom after {fit.design.size} coefficients"
    told += [f"compared with {reference}" for reference, mates in model.references.items() if name in mates]
    if row.low <= 0 <= row.high:
        told.append("not distinguishable from zero")
    elif row.q_bh > 0.05:
        told.append("not distinguishable from zero once the number of techniques is counted")
    if fit.df[at] < 10:
        told.append(f"only {fit.df[at]:.0f} degrees of freedom")
    if min(row.runs, row.runs_off) < 3:
        told.append(f"rests on {min(row.runs, row.runs_off)} run(s) of one kind")
    if row.vif > 5:
        told.append(f"entangled with other techniques (VIF {row.vif:.1f})")
    share = model.rows[name].mean()
    others = [t for t in model.names if t != name]
    if others and share != 0.5:
        told += _company(model.rows, name, others)
    signs = str(row.sign_by_rung)
    if "+" in signs and "−" in signs and np.isfinite(delta):
        told.append("changes sign between rungs")
    return "; ".join(told)


def _company(rows: pd.DataFrame, name: str, others: list[str]) -> list[str]:
    """A doubt if a technique was only measured together with all others, or with none."""
    odd = rows[~rows[name]] if rows[name].mean() > 0.5 else rows[rows[name]]
    beside = odd[others].mean(axis=1)
    if (beside >= 1).all():
        return ["measured together with all other techniques only"]
    if (beside <= 0).all():
        return ["measured without any other technique only"]
    return []


def left_out(model: Model, name: str) -> str:
    """Why the model has no effect of a technique."""
    if name in model.references:
        return f"the reference of its slot: every other run has {' or '.join(model.references[name])} in its place"
    return constant(model.rows, name)


def constant(rows: pd.DataFrame, name: str) -> str:
    """Why a technique that never changed has no effect."""
    state = "on" if len(rows) and rows[name].all() else "off"
    return f"not identifiable: {state} in every complete run"
