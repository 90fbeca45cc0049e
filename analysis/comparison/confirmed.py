"""Confirmation: the best recipe of a search against the preset, on fresh seeds and a text that no search sees."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from golflab.analysis.comparison.paired import compare
from golflab.analysis.table import load
from golflab.model.system.wording import number_of

FOUND = "found"  # name of the best recipe in the confirmation; the others have their preset's name


def confirmed(folder: str | Path, best: str, limit: float) -> pd.DataFrame:
    """Compare the best recipe of a search with the preset, over fresh seeds and the documents of the test part.

    Args:
        folder: of the experiment.
        best: hash of the best recipe; its confirmation is in ``confirm-<hash>`` there.
        limit: bytes it may have; with a fresh seed, an artifact has more or fewer bytes.

    Returns:
        a row per preset: preset, found_bpb and preset_bpb (means on the test part), bytes (largest over the seeds of the
        best recipe), over (seeds on which it exceeds the limit), and the columns of
        `golflab.analysis.comparison.paired.paired` for found − preset. Empty if nothing was confirmed yet.
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
    """The comparison in sentences; none if nothing was confirmed."""
    lines = []
    for r in table.itertuples(index=False):
        doubt = f" ({r.doubt})" if r.doubt else ""
        lines.append(
            f"Confirmed on {number_of(r.seeds, 'fresh seed')} and the test part, which no search sees: the best recipe "
            f"scores {r.found_bpb:.4f}, {r.preset} {r.preset_bpb:.4f}, a difference of {r.delta_bpb:+.4f} ± "
            f"{r.high - r.delta_bpb:.4f} bits per byte{doubt}."
        )
        if r.over:
            lines.append(
                f"The best recipe exceeds the byte limit on {r.over} of {number_of(r.seeds, 'seed')}, with up to "
                f"{r.bytes:,.0f} bytes: leave some room before you submit it."
            )
    return lines
