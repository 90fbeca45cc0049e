"""The report of an experiment: as JSON, as text for a terminal, and as one HTML file that opens offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from golflab.analysis.comparison.confirmed import confirmed
from golflab.analysis.comparison.ranking import ranking
from golflab.analysis.effects.contribution import contribution
from golflab.analysis.effects.finishings import finishings
from golflab.analysis.effects.model import fit_model
from golflab.analysis.files import write_whole
from golflab.analysis.ladder.findings import ladder_findings
from golflab.analysis.reading import located
from golflab.analysis.report.findings import Findings, count
from golflab.analysis.report.terminal import write
from golflab.analysis.table import read


class Report(Findings):
    """An experiment's findings, which can be printed and written."""

    def text(self, console: Any) -> None:
        """Print the summary and the ranking to a `rich` console."""
        write(self, console)

    def html(self, path: str | Path) -> Path:
        """Write the report as one self-contained file, plotly included; it needs no network.

        Raises:
            OSError: the file cannot be written.
        """
        from golflab.analysis.report.page import page  # plotly takes a while to import

        return write_whole(Path(path), page(self))


def report(folder: str | Path) -> Report:
    """Read an experiment's records and compute its report.

    Raises:
        ValueError: there is no such experiment, or it holds no record yet.
    """
    table = read(located(folder))
    model = fit_model(table)
    recipes = ranking(table, model=model)
    best = recipes.loc[recipes["fits"].astype(bool), "recipe"].head(1)
    return Report(
        name=Path(folder).resolve().name if Path(folder).is_dir() else Path(folder).stem,
        table=table,
        contributions=contribution(table, model=model),
        recipes=recipes,
        counts=count(table),
        model=model,
        finishings=finishings(table),
        ladder=ladder_findings(table),
        confirmed=confirmed(folder, best.iloc[0], float(np.nanmedian(table["limit"]))) if len(best) else pd.DataFrame(),
    )
