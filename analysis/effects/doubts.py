"""What should make one hesitate: reasons to doubt a row of the contributions, and what holds for the whole table, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from golflab.analysis.effects.machines import machine_spread, machines_in_words
from golflab.analysis.effects.model import Model
from golflab.model.system.wording import number_of, was


def notes(model: Model, unplanned: int, adaptive: bool) -> list[str]:
    """What holds for the whole table, in sentences.

    Args:
        model: of the effects.
        unplanned: complete runs that are not used, because a search chose them looking at scores.
        adaptive: whether the runs that are used were chosen so.
    """
    said, spread = [*model.notes], machine_spread(model)
    if spread["machines"] > 1:
        said.append(machines_in_words(spread))
    if unplanned > 0:
        said.append(
            f"Effects come from {number_of(len(model.rows), 'run')} planned before any score was known. "
            f"{number_of(unplanned, 'further run')} {was(unplanned)} chosen by looking at scores, and do not count here."
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
    doubts = []
    if at in fit.aliases:
        others = row.aliases.split(", ")
        named = row.aliases if len(others) <= 4 else f"{number_of(len(others), 'other')}; more runs are needed"
        return f"not identifiable: these runs cannot tell it apart from {named}"
    if not np.isfinite(row.se):
        runs = number_of(len(model.rows), "run")
        return f"no error can be given: {runs} for {fit.design.size} coefficients leave no degree of freedom"
    doubts += [f"compared with {reference}" for reference, mates in model.references.items() if name in mates]
    if row.low <= 0 <= row.high:
        doubts.append("not distinguishable from zero")
    elif row.q_bh > 0.05:
        doubts.append("not distinguishable from zero once the number of techniques is counted")
    if fit.df[at] < 10:
        doubts.append(f"only {number_of(round(fit.df[at]), 'degree')} of freedom")
    if min(row.runs, row.runs_off) < 3:
        doubts.append(f"rests on {number_of(min(row.runs, row.runs_off), 'run')} of one kind")
    if row.vif > 5:
        doubts.append(f"entangled with other techniques (VIF {row.vif:.1f})")
    share = model.rows[name].mean()
    others = [t for t in model.names if t != name]
    if others and share != 0.5:
        doubts += _company(model.rows, name, others)
    signs = str(row.sign_by_rung)
    if "+" in signs and "−" in signs and np.isfinite(delta):
        doubts.append("changes sign between rungs")
    return "; ".join(doubts)


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
