"""How well short runs predict long ones: rungs of training curves, and shorter complete schedules."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from golflab.analysis.inference.design_matrix import Design
from golflab.analysis.inference.regression import least_squares
from golflab.analysis.table import techniques

ROWS_AT_MOST = 5000  # enough for a sign and a rank correlation


def rungs(table: pd.DataFrame) -> pd.DataFrame:
    """Scores at rungs: one row per run and rung.

    Returns:
        run (index into ``table``), rung (fraction of the run's tokens), bpb, bytes (NaN where not measured).
    """
    rows = []
    chosen = table if len(table) <= ROWS_AT_MOST else table.sample(ROWS_AT_MOST, random_state=0)
    seen = chosen["tokens"].astype(float) if "tokens" in chosen else []
    for run, curve, tokens in zip(chosen.index, chosen.get("curve", []), seen, strict=False):
        for point in curve:
            if point.get("bpb") is not None and tokens > 0 and point.get("tokens"):
                rows.append((run, round(point["tokens"] / tokens, 2), point["bpb"], point.get("bytes", np.nan)))
    return pd.DataFrame(rows, columns=["run", "rung", "bpb", "bytes"])


def agreement(table: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Rank correlation between each rung and the final score over the complete runs.

    Returns:
        rung, spearman, low, high (Fisher's z with Bonett and Wright's variance), runs, doubt.
    """
    complete = table[(table["state"] == "complete") & table["bpb"].notna()] if "state" in table else table
    out = []
    for rung, part in rungs(complete).groupby("rung"):
        if rung >= 0.995 or len(part) < 5:
            continue
        r = float(stats.spearmanr(part["bpb"], complete.loc[part["run"], "bpb"]).statistic)
        half = stats.norm.ppf(0.5 + level / 2) * np.sqrt((1 + r * r / 2) / max(len(part) - 3, 1))
        z = np.arctanh(np.clip(r, -0.999999, 0.999999))
        low, high = np.tanh(z - half), np.tanh(z + half)
        doubt = "does not predict the final score" if low <= 0 else ("weak" if low < 0.6 else "")
        out.append((rung, r, low, high, len(part), doubt))
    return pd.DataFrame(out, columns=["rung", "spearman", "low", "high", "runs", "doubt"])


def signs(table: pd.DataFrame, names: list[str]) -> dict[str, str]:
    """Sign of every technique's effect at each rung, if the effect is at least twice its error: ``25% + 50% ·``."""
    complete = table[(table["state"] == "complete") & table["bpb"].notna()] if "state" in table else table
    signs: dict[str, list[str]] = {name: [] for name in names}
    for rung, part in rungs(complete).groupby("rung"):
        flags = complete.loc[part["run"], names].to_numpy(float) - 0.5
        if rung >= 0.995 or len(part) < len(names) + 5:
            continue
        fit = least_squares(Design(np.hstack([np.ones((len(part), 1)), flags]), ("1", *names)), part["bpb"].to_numpy(float))
        with np.errstate(invalid="ignore", divide="ignore"):
            t = fit.beta / fit.se
        for k, name in enumerate(names, start=1):
            signs[name].append(f"{rung:.0%} {_sign(t[k])}")
    return {name: " ".join(parts) for name, parts in signs.items() if parts}


def shorter(table: pd.DataFrame) -> pd.DataFrame:
    """Complete runs by training tokens: tokens, runs, techniques that varied. Only runs of one length are ever compared."""
    if "schedule.tokens" not in table:
        return pd.DataFrame(columns=["tokens", "runs", "techniques"])
    complete = table[table["state"] == "complete"]
    rows = [
        (t, len(part), sum(0 < part[n].sum() < len(part) for n in techniques(table)))
        for t, part in complete.groupby("schedule.tokens")
    ]
    return pd.DataFrame(rows, columns=["tokens", "runs", "techniques"])


def _sign(t: float) -> str:
    return "·" if not abs(t) >= 2 else ("−" if t < 0 else "+")
