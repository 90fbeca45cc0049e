"""Was the best of a search really better? Fresh seeds, and a text that no search sees."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from golflab.analysis.comparison.paired import compare
from golflab.analysis.table import load

FOUND = "found"  # the label of the recipe the search found; the others carry their preset's name


def confirmed(folder: str | Path, best: str, limit: float) -> pd.DataFrame:
    """Compare what a search found with the preset it was run against, over fresh seeds and the test part's documents.

    Args:
        folder: of the experiment.
        best: recipe hash of the best found; its confirmation lies in ``confirm-<hash>`` there.
        limit: bytes it may have; a fresh seed packs into more or fewer than the first one.

    Returns:
        a row per preset: preset, found_bpb and preset_bpb (means on the test part), bytes (the largest of the found), over
        (seeds on which it is over the limit), and the columns of `golflab.analysis.comparison.paired.paired` for found −
        preset. Empty where nothing was confirmed yet.
    """
    runs = Path(folder) / f"confirm-{best}"
    if not (runs / "trials").is_dir() or not any((runs / "trials").glob("*/record.json")):
        return pd.DataFrame()
    table = load(runs)
    done = table[table["state"] == "complete"]
    found = done[done["preset"] == FOUND]
    if found.empty:
        return pd.DataFrame()
    rows = []
    for name, part in done[done["preset"] != FOUND].groupby("preset", sort=False):
        gap = compare(table, found["recipe"].iloc[0], part["recipe"].iloc[0])
        gap.insert(0, "preset", name)
        gap.insert(1, "found_bpb", found["bpb"].mean())
        gap.insert(2, "preset_bpb", part["bpb"].mean())
        gap.insert(3, "bytes", found["bytes"].max())
        gap.insert(4, "over", int((found["bytes"] > limit).sum()))
        rows.append(gap)
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def in_words(table: pd.DataFrame) -> list[str]:
    """The comparison in sentences; none where nothing was confirmed."""
    lines = []
    for r in table.itertuples(index=False):
        doubt = f" ({r.doubt})" if r.doubt else ""
        lines.append(
            f"Confirmed on {r.seeds} fresh seed(s) and the test part, which no search sees: the best found scores "
            f"{r.found_bpb:.4f}, {r.preset} {r.preset_bpb:.4f}, a difference of {r.delta_bpb:+.4f} ± "
            f"{r.high - r.delta_bpb:.4f} bits per byte{doubt}."
        )
        if r.over:
            lines.append(
                f"The best found is over the byte limit on {r.over} of these {r.seeds} seed(s), with up to {r.bytes:,.0f} "
                "bytes: leave a little room before you hand it in."
            )
    return lines
