"""Columns of the contribution model besides techniques: blocks of seeds and machines, and covariates for knobs and shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from golflab.analysis.table import knobs, shapes


def seed_blocks(rows: pd.DataFrame, size: int) -> tuple[np.ndarray, list[str]]:
    """A column per seed but one, where the runs are few seeds used again and again: common random numbers cancel there."""
    empty = np.zeros((len(rows), 0))
    if "seed" not in rows or rows["seed"].isna().any():
        return empty, []
    seeds, codes, counts = np.unique(rows["seed"].to_numpy(), return_inverse=True, return_counts=True)
    if len(seeds) < 2 or counts.min() < 2 or len(rows) / len(seeds) < 4 or len(rows) - len(seeds) - size < 1:
        return empty, []
    return _dummies(codes, len(seeds)), [f"seed {s:g}" for s in seeds[1:]]


def machine_blocks(rows: pd.DataFrame, size: int) -> tuple[np.ndarray, list[str], list[str]]:
    """A column per machine but one: the same code and seeds score differently on another machine.

    Runs whose record does not name its machine count as those of one more.

    Args:
        rows: of the model.
        size: columns that the model has already.

    Returns:
        (runs, machines - 1) columns, their labels, and sentences for the reader.
    """
    empty = np.zeros((len(rows), 0))
    if "machine" not in rows:
        return empty, [], []
    machines, codes = np.unique(rows["machine"].fillna("").astype(str).to_numpy(), return_inverse=True)
    if len(machines) < 2:
        return empty, [], []
    if len(rows) - size - (len(machines) - 1) < max(3, len(rows) // 4):
        note = (
            f"The runs come from {len(machines)} machines and are too few to compare them within each machine. Differences "
            "between machines are part of the errors, and of an effect if its runs were on other machines than the rest."
        )
        return empty, [], [note]
    note = f"The runs come from {len(machines)} machines; they are compared within each machine."
    return _dummies(codes, len(machines)), [f"machine {name or 'not named'}" for name in machines[1:]], [note]


def _dummies(codes: np.ndarray, count: int) -> np.ndarray:
    """A centred column per level but the first."""
    dummies = (codes[:, None] == np.arange(1, count)[None, :]).astype(float)
    return dummies - dummies.mean(axis=0)


def covariates(rows: pd.DataFrame, size: int) -> tuple[np.ndarray, list[str], list[str]]:
    """Columns for the shape and for knobs (centred over the runs that have them), the shape first, as long as a quarter of
    the runs, and six at least, are left to judge errors by."""
    iso = bool(_option(rows, "iso_size"))
    wanted = [*([] if iso else shapes(rows)), *knobs(rows)]
    columns, names = [], []
    for name in wanted:
        for label, column in _numeric(rows, name):
            if np.ptp(column) > 0:
                columns.append(column)
                names.append(label)
    room = max(len(rows) - size - max(6, len(rows) // 4), 0)
    notes = []
    if len(names) > room:
        notes.append(f"Knobs and shape not adjusted for, because {len(rows)} runs are too few: {', '.join(names[room:])}.")
    columns, names = columns[:room], names[:room]
    return (np.column_stack(columns) if columns else np.zeros((len(rows), 0))), names, notes


def _numeric(rows: pd.DataFrame, name: str) -> list[tuple[str, np.ndarray]]:
    """A knob as columns: itself standardised, or one per further level where its values are words; 0 where it is absent."""
    values = rows[name]
    if pd.api.types.is_numeric_dtype(values):
        x = values.to_numpy(float)
        known = np.isfinite(x)
        spread = x[known].std() if known.any() else 0.0
        return [(name, np.where(known, (x - x[known].mean()) / spread, 0.0))] if spread > 0 else []
    levels = sorted(values.dropna().unique())[1:]
    return [
        (f"{name}={v}", np.where(values.notna(), (values == v) - (values == v)[values.notna()].mean(), 0.0)) for v in levels
    ]


def _option(rows: pd.DataFrame, key: str) -> Any:
    experiment = rows.attrs.get("experiment", {})
    return experiment.get(key, experiment.get("options", {}).get(key))
