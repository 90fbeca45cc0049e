"""The effects of techniques that act after training, compared on the same trained weights and the same text."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from golflab.analysis.inference.intervals import half_width
from golflab.analysis.inference.significance import benjamini_hochberg, detectable
from golflab.model.system.wording import number_of

COLUMNS = [
    "technique",
    "delta_bpb",
    "se",
    "low",
    "high",
    "p",
    "q_bh",
    "trainings",
    "mde",
    "bytes",
    "bytes_se",
    "bytes_low",
    "bytes_high",
    "instead_of",
    "beside",
    "doubt",
]


def finishings(table: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Average paired differences (`golflab.model.ways.compare`) over trainings.

    A training is quantised, packed and scored with a technique and without it. Both sides share the weights and the text, so a
    difference varies much less than the scores of two trainings. Every training is scored on another part of the text. The
    error is the spread of the differences over trainings; it covers fresh weights and fresh text of the same kind.

    Args:
        table: of `golflab.analysis.table.load`. Runs that share a training count once.
        level: of the confidence intervals.

    Returns:
        best first: technique; delta_bpb (with it minus without it; negative is better), se, low, high, p, q_bh (adjusted over
        the techniques listed); trainings; mde, the smallest detectable effect (5 % level, 80 % power);
        bytes, bytes_se, bytes_low, bytes_high (change of the packed size, code included); instead_of, the technique in
        the slot on the other side; beside, techniques that were on on both sides; doubt. Empty if nothing was compared.
    """
    rows = [_row(key, comparisons, level) for key, comparisons in _most_frequent(_gathered(table)).items()]
    frame = pd.DataFrame(rows, columns=COLUMNS) if rows else pd.DataFrame(columns=COLUMNS)
    if rows:
        frame["q_bh"] = benjamini_hochberg(frame["p"].to_numpy(float))
        frame["doubt"] = [_doubt(row) for row in frame.itertuples(index=False)]
    return frame.sort_values("delta_bpb", na_position="last", kind="stable").reset_index(drop=True)


Key = tuple[str, tuple[str, ...], tuple[str, ...]]


def _gathered(table: pd.DataFrame) -> dict[Key, list[dict[str, Any]]]:
    """Technique, what it replaced, and what was on on both sides -> its comparisons, one per training."""
    found: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    if "finishings" not in table:
        return found
    seen: set[tuple[Key, str]] = set()
    for training, comparisons in zip(table["training"], table["finishings"], strict=True):
        for one in comparisons if comparisons is not None else ():
            key = (one["technique"], tuple(one["instead_of"]), tuple(one["beside"]))
            if (key, training) not in seen:
                seen.add((key, training))
                found[key].append(one)
    return found


def _most_frequent(found: dict[Key, list[dict[str, Any]]]) -> dict[Key, list[dict[str, Any]]]:
    """For each technique the comparisons with the technique that it replaced most often."""
    best: dict[tuple[str, tuple[str, ...]], Key] = {}
    for key, comparisons in found.items():
        other = best.get((key[0], key[2]))
        if other is None or len(comparisons) > len(found[other]):
            best[key[0], key[2]] = key
    return {key: found[key] for key in best.values()}


def _row(key: Key, comparisons: list[dict[str, Any]], level: float) -> dict[str, Any]:
    technique, instead_of, beside = key
    gaps, sizes = np.array([t["delta_bpb"] for t in comparisons]), np.array([t["delta_bytes"] for t in comparisons], float)
    n = len(comparisons)
    row: dict[str, Any] = {"technique": technique, "trainings": n, "instead_of": ", ".join(instead_of) or "nothing"}
    row |= {"beside": ", ".join(beside), "delta_bpb": gaps.mean(), "bytes": sizes.mean()}
    for name, values in (("se", gaps), ("bytes_se", sizes)):
        row[name] = values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    half, bytes_half = half_width(row["se"], n - 1, level), half_width(row["bytes_se"], n - 1, level)
    row |= {"low": row["delta_bpb"] - half, "high": row["delta_bpb"] + half}
    row |= {"bytes_low": row["bytes"] - bytes_half, "bytes_high": row["bytes"] + bytes_half}
    if row["se"] == 0:  # a codec changes no weight, so no score
        return row | {"p": float(row["delta_bpb"] == 0), "mde": 0.0}
    row["p"] = 2 * stats.t.sf(abs(row["delta_bpb"]) / row["se"], n - 1) if n > 1 else np.nan
    return row | {"mde": row["se"] * detectable(float(n - 1)) if n > 1 else np.nan}


def _doubt(row: Any) -> str:
    """Reasons to doubt a row, in words."""
    doubts = []
    if not np.isfinite(row.se):
        doubts.append("one training only: no error can be given")
    elif row.se == 0 and row.delta_bpb == 0:
        doubts.append("changes no weight, so no score: only bytes")
    elif row.q_bh > 0.05:
        doubts.append("not distinguishable from zero")
    if 1 < row.trainings < 6:
        doubts.append(f"only {number_of(row.trainings, 'training')}")
    return "; ".join(doubts)
