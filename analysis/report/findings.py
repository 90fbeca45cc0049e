"""The findings of an experiment as tables; all forms of the report are made from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from golflab.analysis.effects.model import Model
from golflab.analysis.evidence.published import beside
from golflab.analysis.ladder.findings import LadderFindings, json_rows
from golflab.model.system.wording import number_of

RANKING = ["technique", "delta_bpb", "se", "low", "high", "p", "p_holm", "q_bh", "runs", "mde", "bytes", "doubt"]


@dataclass
class Findings:
    """The content of a report, as tables.

    Attributes:
        name: of the experiment.
        table: one row per run.
        contributions: of `contribution`.
        recipes: of `ranking`.
        counts: of `count`.
        model: behind the contributions, or None where nothing could be compared.
        finishings: of `golflab.analysis.effects.finishings.finishings`: paired effects of what acts after training; may be
        empty.
        confirmed: of `golflab.analysis.comparison.confirmed.confirmed`: the best recipe against the preset on fresh seeds;
        may be empty.
        ladder: of `golflab.analysis.ladder.findings.ladder_findings`: effects predicted at full scale, if the experiment is a
            ladder.
    """

    name: str
    table: pd.DataFrame
    contributions: pd.DataFrame
    recipes: pd.DataFrame
    counts: dict[str, int]
    model: Model | None = field(repr=False, default=None)
    finishings: pd.DataFrame = field(repr=False, default_factory=pd.DataFrame)
    confirmed: pd.DataFrame = field(repr=False, default_factory=pd.DataFrame)
    ladder: LadderFindings | None = field(repr=False, default=None)

    @property
    def best(self) -> dict[str, Any] | None:
        """The best recipe that fits, with its error, or None if no run completed within its limit."""
        fitting = self.recipes[self.recipes["fits"].astype(bool)]
        return None if fitting.empty else _plain(fitting.iloc[0].to_dict())

    def json(self) -> dict[str, Any]:
        """The object `golflab report --json` prints; unknown numbers are null."""
        rows = self.contributions[RANKING].to_dict("records")
        body = {"best": self.best, "ranking": [_plain(r) for r in rows], "counts": self.counts}
        for name in ("finishings", "confirmed", "expected", "published"):  # only where there are any
            if len(found := getattr(self, name)):
                body[name] = [_plain(r) for r in found.to_dict("records")]
        return body if self.ladder is None else body | {"ladder": json_rows(self.ladder)}

    @cached_property
    def published(self) -> pd.DataFrame:
        """What entries published about the techniques that varied, beside what was measured; may be empty.

        A ladder has runs of several scales. Beside its techniques stand the effects that it predicts at full scale.
        """
        if self.ladder is None:
            return beside(self.contributions)
        return beside(self.ladder.predictions.rename(columns={"delta_full": "delta_bpb"}))

    @cached_property
    def expected(self) -> pd.DataFrame:
        """Effects that the search expected before its first trial (``--prior``), beside what was measured; may be empty."""
        told = (self.table.attrs["experiment"].get("options") or {}).get("prior") or []
        prior = pd.DataFrame(told, columns=["technique", "expected", "expected_sd"])
        measured = self.contributions[["technique", "delta_bpb", "low", "high"]].astype({"technique": object})
        return prior.astype({"technique": object}).merge(measured, on="technique", how="left")

    @property
    def identified(self) -> bool:
        """Whether the runs identify the effect of any technique."""
        return bool(self.contributions["se"].notna().any())

    def unidentified(self) -> str:
        """Why no effect can be given, and the command to continue."""
        count, runs = len(self.contributions), self.contributions.attrs["runs"]
        if not count:
            return "No technique varied between these runs, so there is no effect to estimate."
        resume = str(self.table.attrs["experiment"].get("resume", ""))
        wanted = max(40, 2 * count + 4, 2 * len(self.table))
        next_step = f"Continue with `{resume} --trials {wanted}`." if resume else "Run more combinations."
        return (
            f"{number_of(runs, 'complete run')} cannot separate the effects of {number_of(count, 'technique')}: at least "
            f"{count + 2} are needed. {next_step}"
        )


def count(table: pd.DataFrame) -> dict[str, int]:
    """Recipes considered, refused because they cannot fit, trained, and by how they ended.

    ``over_limit`` were stopped because their measured bytes exceeded the limit; they are among the pruned.
    """
    counts = table.attrs.get("experiment", {}).get("counts", {})
    states = table["state"].value_counts()
    dropped = max(int(counts.get("not_fitting", 0)), int(states.get("not_fitting", 0)))
    here = {name: int(states.get(name, 0)) for name in ("pruned", "failed", "complete")}
    trained = int((table["trained"] & (table["state"] != "not_fitting")).sum())
    asked = int(counts.get("asked", dropped + sum(here.values())))
    over = int(((table["state"] == "pruned") & (table["bytes"] > table["limit"])).sum())
    over = max(over, int(counts.get("over_limit", 0)))
    return {"asked": asked, "not_fitting": dropped, "trained": trained, "over_limit": over, **here}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """JSON values: numpy scalars unwrapped, what is not finite null, counts whole."""
    out: dict[str, Any] = {}
    for key, value in row.items():
        value = None if value is pd.NA else value
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        out[key] = int(value) if key in ("runs", "seed") and value is not None else value
    return out
