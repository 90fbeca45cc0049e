"""The report as one HTML page: figures, tables and words put into the template beside this file."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from golflab.analysis.ladder.findings import LadderFindings, findings_of, ladder_in_words
from golflab.analysis.ladder.runs import paired
from golflab.analysis.report import sections_effects as effects
from golflab.analysis.report import sections_runs as runs
from golflab.analysis.report.findings import Findings
from golflab.analysis.report.sections_ladder import ladder_section
from golflab.analysis.report.sections_published import beside_published, expected_before
from golflab.analysis.report.words import summary

BUNDLE = Path(__file__).with_name("plotly-basic.min.js.gz")


def page(findings: Findings) -> str:
    """The whole page as text."""
    return render(findings.name, summary(findings), _cards(findings), _sections(findings))


def render(name: str, sentences: list[str], cards: list[tuple[str, str, str]], sections: list[dict[str, Any]]) -> str:
    """One self-contained HTML page, which opens offline.

    Args:
        name: the headline.
        sentences: what a reader should know first.
        cards: label, value and remark of the few numbers that matter most.
        sections: of `section`, in reading order.
    """
    import jinja2

    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        name=name, sentences=sentences, cards=cards, sections=sections, plotly=bundle()
    )


def ladder_page(name: str, runs: pd.DataFrame) -> str:
    """The page of a ladder from a table of its runs, as `golflab.analysis.ladder.runs.arms` makes it or a file keeps it.

    Raises:
        ValueError: the runs are too few for an error.
    """
    found = findings_of(paired(runs))
    if found is None:
        raise ValueError(f"{name}: a ladder's page needs two rungs, and one of them with two seeds.")
    trained = runs[runs["trained"].astype(bool)]
    rungs = runs.drop_duplicates(["parameters", "tokens_per_parameter"])
    sentences = [f"{len(runs)} runs on {len(rungs)} rungs completed.", ladder_in_words(found)]
    return render(
        name, sentences, [_verdicts(found), _trainings(len(trained), float(trained["seconds"].sum()))], [ladder_section(found)]
    )


def bundle() -> str:
    """JavaScript that draws scatter, bar and pie charts, without a network.

    It is `plotly-basic.min.js` of the npm package plotly.js-basic-dist-min 4.1.1 (MIT), unchanged: 1.2 MB. The Python package
    plotly only has the bundle of all charts, which is 4.8 MB. CONTRIBUTING.md says how to renew it.
    """
    return gzip.decompress(BUNDLE.read_bytes()).decode()


def _cards(findings: Findings) -> list[tuple[str, str, str]]:
    """The few numbers a reader wants first: label, value, remark."""
    best, limit = findings.best, float(np.nanmedian(findings.table["limit"]))
    seconds = findings.table.loc[findings.table["trained"], "seconds"].sum()
    cards = []
    if best and findings.ladder is None:
        error = f"± {best['high'] - best['bpb']:.4f}" if best["high"] is not None else "error unknown"
        cards.append(("best bits per byte", f"{best['bpb']:.4f}", error))
        if best["bytes"]:
            cards.append(("its bytes", f"{best['bytes']:,.0f}", f"{best['bytes'] / limit:.1%} of {limit:,.0f}"))
    if findings.ladder is None:
        clear = findings.contributions
        real = int(((clear["q_bh"] <= 0.05) & ((clear["low"] > 0) | (clear["high"] < 0))).sum())
        cards.append(("clear effects", f"{real} of {len(clear)}", "techniques, at 5 % false discovery"))
    else:
        cards.append(_verdicts(findings.ladder))
    return [*cards, _trainings(findings.counts["trained"], seconds)]


def _verdicts(found: LadderFindings) -> tuple[str, str, str]:
    sure = int((found.predictions["verdict"] != "cannot tell").sum())
    return "verdicts", f"{sure} of {len(found.predictions)}", "techniques, at 95 % probability"


def _trainings(count: int, seconds: float) -> tuple[str, str, str]:
    took = f"{seconds / 3600:.1f} h of training" if seconds >= 5400 else f"{seconds / 60:.0f} min of training"
    return "trainings", f"{count}", took


def _sections(findings: Findings) -> list[dict[str, Any]]:
    """Title, lead, figures and tables of each section, in reading order; empty ones are left out."""
    if findings.ladder is not None:  # runs of several scales, which the other sections would compare with each other
        own = [ladder_section(findings.ladder), runs.curves(findings), runs.failures(findings), runs.machine(findings)]
        return [p for p in own if p]
    parts = [
        effects.contributions(findings),
        effects.after_training(findings),
        expected_before(findings),
        beside_published(findings),
        runs.best_confirmed(findings),
        runs.recipes(findings),
        effects.pairs(findings),
        runs.bytes_and_score(findings),
        effects.knobs(findings),
        runs.forecasts(findings),
        runs.curves(findings),
        runs.budget(findings),
        runs.failures(findings),
        runs.machine(findings),
    ]
    return [p for p in parts if p]
