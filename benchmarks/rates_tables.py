"""The tables of docs/ladder.md about learning rates, from runs of `benchmarks.rates`: ``python -m benchmarks.rates_tables``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from golflab.spaces.scales import SCALES

FILE = Path(__file__).parent.parent / "docs" / "rates" / "web_2026_11.csv.gz"
OWN = "as it is"
SWEPT = {
    "muon": "The matrices' rate, times",
    "adam": "The rates of tables and scales, times",
    "momentum": "The steps that the momentum averages over, as √steps times",
    "momentum start": "Momentum that begins by averaging over so much of its final horizon",
    "warmdown": "The share of the run that the warmdown takes",
    "average": "An average of weights over so much of the run; 0: the last weights",
}
TRIED = {("root", 1.0): "rate ∝ 1/√steps", ("root", 2.0): "and warmdown ≤ ½", ("root", 3.0): "and momentum ½·√steps"}
TRIED |= {("rule", 2.0): "the rule without momentum", ("rule", 1.0): "the rule"}


def differences(runs: pd.DataFrame) -> pd.DataFrame:
    """Bits per byte against the preset as it is, before rounding, paired by seed and device: one row a setting and rung."""
    keys = ["device", "preset", "scale", "duration", "seed"]
    own = runs[runs["setting"] == OWN].set_index(keys)["bpb_float"].rename("own")
    paired = runs[runs["setting"] != OWN].join(own, on=keys).dropna(subset="own")
    paired["delta"] = paired["bpb_float"] - paired["own"]
    found = paired.groupby(["setting", "value", "scale", "duration", "preset"])
    return found.agg(
        steps=("steps", "first"), delta=("delta", "mean"), se=("delta", "sem"), seeds=("delta", "count")
    ).reset_index()


def tables(runs: pd.DataFrame) -> str:
    """A titled Markdown table for each thing that was swept, and one for the rules that were tried; blank lines between."""
    told = differences(runs)
    told["column"] = [TRIED.get((s, v), f"{v:g}") for s, v in zip(told["setting"], told["value"], strict=True)]
    parts = [_table(told[told["setting"] == s], title, s in ("muon", "adam")) for s, title in SWEPT.items()]
    tried = told[told["setting"].isin(["rule", "root"])]
    return "\n\n".join(part for part in (*parts, _table(tried, "Rules", False)) if part)


def best_multiplier(values: np.ndarray, deltas: np.ndarray) -> float:
    """Where a cubic through the differences over the logarithm of the multiplier, 0 at 1, is lowest in the range swept."""
    x, y = np.append(np.log(values), 0.0), np.append(deltas, 0.0)
    grid = np.linspace(x.min(), x.max(), 400)
    return float(np.exp(grid[np.polynomial.Polynomial.fit(x, y, 3)(grid).argmin()]))


def _table(part: pd.DataFrame, title: str, multiplied: bool) -> str:
    if part.empty:
        return ""
    names = [*TRIED.values()] if part["setting"].iloc[0] in ("rule", "root") else sorted(part["column"].unique(), key=float)
    names = [name for name in names if (part["column"] == name).any()]
    lines = ["preset | rung | steps | " + " | ".join([*names, *["lowest at"] * multiplied])]
    lines.append("|".join(["---", "---", *["---:"] * (len(names) + 1 + multiplied)]))
    order = part.assign(size=part["scale"].map(list(SCALES).index))
    for (_, duration, preset), row in order.groupby(["size", "duration", "preset"]):
        cells, told = row.set_index("column"), [f"`{preset}`", f"{row['scale'].iloc[0]} × {duration:g}"]
        told += [f"{row['steps'].iloc[0]:,}", *(_number(cells.loc[n]) if n in cells.index else "–" for n in names)]
        if multiplied:
            told.append(f"× {best_multiplier(row['value'].to_numpy(), row['delta'].to_numpy()):.1f}" if len(row) > 3 else "–")
        lines.append(" | ".join(told))
    return f"**{title}**\n\n" + "\n".join(f"|{line}|" if line.startswith("---") else f"| {line} |" for line in lines)


def _number(cell: pd.Series) -> str:
    error = "" if pd.isna(cell["se"]) else f" ± {cell['se']:.4f}"
    return f"{cell['delta']:+.4f}{error}".replace("-", "−")


if __name__ == "__main__":
    print(tables(pd.read_csv(FILE)))
