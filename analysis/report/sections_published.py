"""The section of the page that puts published effects beside the measured ones."""

from __future__ import annotations

from typing import Any

import pandas as pd

from golflab.analysis.evidence.published import ASSUMED
from golflab.analysis.report.findings import Findings
from golflab.analysis.report.parts import number, section, signed


def beside_published(findings: Findings) -> dict[str, Any]:
    """What was measured beside what entries published; empty if they published nothing about these techniques."""
    table = findings.published
    if table.empty:
        return {}
    counts = table["agreement"].value_counts()
    lead = (
        "What entries of the challenge published about the same techniques, as a random-effects mean over their settings, with "
        "its 95 % interval. “Signs agree” is yes or no only where both intervals exclude zero: "
        f"{counts.get('yes', 0)} yes, {counts.get('no', 0)} no, {counts.get('unclear', 0)} unclear. Another scale, "
        f"another text or other techniques beside it may change a sign. {ASSUMED}"
    )
    shown = pd.DataFrame(
        {
            "technique": table["technique"],
            "measured": signed(table["delta_bpb"]),
            "± 95 %": number(table["high"] - table["delta_bpb"]),
            "published": signed(table["published"]),
            "published ± 95 %": number(table["published_high"] - table["published"]),
            "SD between settings": number(table["published_between"]),
            "better in": [f"{b} of {n} sources" for b, n in zip(table["better"], table["sources"], strict=True)],
            "signs agree": table["agreement"].replace("", "–"),
        }
    )
    return section("Beside what was published", lead, tables=[("", shown)])
