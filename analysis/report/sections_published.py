"""The sections of the page that put published effects, and what was expected from them, beside the measured ones."""

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


def expected_before(findings: Findings) -> dict[str, Any]:
    """What the search expected of techniques before its first trial; empty if it expected nothing."""
    table = findings.expected
    if table.empty:
        return {}
    lead = (
        "The search began with these effects as the mean of its model, each with a standard deviation, and made its first "
        "proposals from them (--prior). They stay in experiment.json. Its trials correct them. They do not enter the measured "
        "effects, but they say what was tried first."
    )
    shown = pd.DataFrame(
        {
            "technique": table["technique"],
            "expected": signed(table["expected"]),
            "SD": number(table["expected_sd"]),
            "measured": signed(table["delta_bpb"]),
            "± 95 %": number(table["high"] - table["delta_bpb"]),
        }
    )
    return section("What the search expected", lead, tables=[("", shown)])
