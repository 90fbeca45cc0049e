"""Bytes and seconds against bits per byte: the frontier, and the value of one more kilobyte."""

from __future__ import annotations

import numpy as np
import pandas as pd

from golflab.analysis.comparison.ranking import ranking


def frontier(table: pd.DataFrame, seconds: bool = False, recipes: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every recipe with its bytes, bits per byte and seconds, and whether any other is at least as good in all of them.

    Args:
        table: runs.
        seconds: count the training seconds as a third cost.
        recipes: of `ranking` for the same table, if it is at hand.

    Returns:
        by bytes: recipe, preset, techniques, bytes, bpb, se, low, high, seconds, fits, efficient, doubt. Recipes run with
        several seeds are one row.
    """
    frame = (ranking(table) if recipes is None else recipes).dropna(subset=["bytes", "bpb"]).copy()
    columns = ["bytes", "bpb", *(["seconds"] if seconds else [])]
    costs = frame[columns].to_numpy(float)
    frame["efficient"] = efficient(costs)
    frame["doubt"] = np.where(frame["efficient"] & (frame["runs"] < 2), "one run: its place may be luck", "")
    kept = ["recipe", "preset", "techniques", "bytes", "bpb", "se", "low", "high", "seconds", "fits", "efficient", "doubt"]
    return frame[kept].sort_values("bytes").reset_index(drop=True)


def shadow_price(
    table: pd.DataFrame, limit: float | None = None, draws: int = 200, recipes: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The value of one more kilobyte at the limit: the slope of the frontier's lower convex hull there.

    Returns:
        one row: limit, bpb_per_kb (negative: more bytes buy fewer bits), se, low, high (95 %, bootstrap over recipes), recipes,
        doubt.
    """
    frame = frontier(table, recipes=recipes)
    limit = (
        float(limit if limit is not None else np.nanmedian(table["limit"]))
        if "limit" in table or limit is not None
        else float("nan")
    )
    points = frame[["bytes", "bpb"]].to_numpy(float)
    if len(points) < 3 or not np.isfinite(limit):
        nothing = {"limit": limit, "bpb_per_kb": np.nan, "se": np.nan, "low": np.nan, "high": np.nan, "recipes": len(points)}
        return pd.DataFrame([nothing | {"doubt": f"{len(points)} recipes are too few"}])
    generator = np.random.default_rng(0)
    sample = points if len(points) <= 2000 else points[generator.choice(len(points), 2000, replace=False)]
    slopes = np.array([_slope(sample[generator.integers(len(sample), size=len(sample))], limit) for _ in range(draws)])
    low, high = np.quantile(slopes, [0.025, 0.975])
    doubt = "not distinguishable from zero" if high >= 0 else ""
    row = {
        "limit": limit,
        "bpb_per_kb": _slope(points, limit),
        "se": slopes.std(ddof=1),
        "low": low,
        "high": high,
        "recipes": len(points),
        "doubt": doubt,
    }
    return pd.DataFrame([row])


def efficient(costs: np.ndarray) -> np.ndarray:
    """(n,) whether no other row is at least as small everywhere and smaller somewhere."""
    order = np.lexsort(costs.T[::-1])
    out = np.zeros(len(costs), bool)
    if costs.shape[1] == 2:
        heights = costs[order, 1]
        best = np.minimum.accumulate(np.concatenate([[np.inf], heights[:-1]]))
        out[order] = heights < best
        return out
    kept: list[np.ndarray] = []
    for k in order:
        if not kept or not (np.array(kept) <= costs[k]).all(axis=1).any():
            out[k] = True
            kept.append(costs[k])
    return out


def _slope(points: np.ndarray, limit: float) -> float:
    """Slope, in bits per byte per kilobyte, of the lower convex hull's segment at ``limit`` (its last one beyond the hull)."""
    hull: list[np.ndarray] = []
    for p in points[np.lexsort((points[:, 1], points[:, 0]))]:
        if hull and p[1] >= min(h[1] for h in hull[-1:]):
            continue  # more bytes and no better: not on the falling part
        while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (p[0] - hull[-2][0]) >= (p[1] - hull[-2][1]) * (
            hull[-1][0] - hull[-2][0]
        ):
            hull.pop()
        hull.append(p)
    if len(hull) < 2:
        return 0.0
    at = next((k for k in range(1, len(hull)) if hull[k][0] >= limit), len(hull) - 1)
    (x0, y0), (x1, y1) = hull[at - 1], hull[at]
    return float((y1 - y0) / (x1 - x0) * 1000)
