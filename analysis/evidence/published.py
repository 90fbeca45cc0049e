"""What entries published about single techniques, as a table; and beside it what was measured here.

The facts are in ``published.csv``: one row an effect. Nearly all lack an error. `load` gives each a typical one, which the
table calls assumed: the entries' final scores scatter by 0.0007 bits per byte between seeds (median of 23 entries; 0.0002 to
0.0017), so that is one run's standard deviation at full scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from golflab.analysis.inference.meta_analysis import random_effects

FILE = Path(__file__).with_name("published.csv")
SEED_SD = {"full": 0.0007, "smaller": 0.0015}  # of one run; short runs on one GPU scatter more
WEIGHTS_SD = 0.0003  # of the difference of two ways to finish one training
ASSUMED = (
    "No row has an error of its own. Those shown are assumed: a standard deviation between the seeds of one side of "
    f"{SEED_SD['full']} bits per byte at full scale, and of {SEED_SD['smaller']} in smaller settings or where the scale is not "
    f"stated; {WEIGHTS_SD} where both sides share their trained weights; one run a side where the number is not stated; and "
    "half a unit of the last digit printed."
)
CATEGORIES = {
    "metric": ["score", "float", "adapted", "cost"],
    "scale": ["full", "smaller"],
    "pairing": ["weights", "seeds", "none"],
}
WORDS = ("technique", "knob", "instead_of", "change", "context", "doubt", "source")
SUMMARY = ["technique", "knob", "instead_of", "change", "scale", "delta_bpb", "se", "low", "high", "between", "p_equal"]
SUMMARY += ["sources", "better", "rows"]


def load() -> pd.DataFrame:
    """Read the published effects.

    Returns:
        a row an effect, with the columns: technique (names of the catalogue, several where they were changed together; empty
        where the catalogue has none); knob (``technique.knob`` or a field of shape or schedule; empty where the technique was
        switched on); instead_of (what the other side had in its place; empty where it had the slot's default or nothing);
        change; delta_bpb (negative is better); metric (``score``: the entry's score, or not stated; ``float``: before
        quantisation; ``adapted``: after test-time training; ``cost``: what quantisation costs); scale (``full``: the
        challenge's eight GPUs and ten minutes; ``smaller``; missing: not stated); seeds_new, seeds_old (Int64, missing where
        not stated); pairing (``weights``: both sides share their trained weights; ``seeds``; ``none``; missing: not stated);
        context; doubt (why the row is left out of summaries; empty if it is not); source (pull request, or folder, of the
        challenge's repository); se_assumed (see `ASSUMED`).
    """
    table = pd.read_csv(FILE, dtype=str, keep_default_na=False)
    digits = table["delta_bpb"].str.partition(".")[2].str.len()
    table = table.astype({"delta_bpb": float, **dict.fromkeys(WORDS, object)})
    for side in ("seeds_new", "seeds_old"):
        table[side] = pd.to_numeric(table[side].replace("", None)).astype("Int64")
    for name, values in CATEGORIES.items():
        table[name] = pd.Categorical(table[name].replace("", None), categories=values)
    table["se_assumed"] = _assumed(table, digits.to_numpy(float))
    return table


def _assumed(table: pd.DataFrame, digits: np.ndarray) -> np.ndarray:
    """(rows,) a typical error by kind of comparison."""
    new, old = (table[side].fillna(1).to_numpy(float) for side in ("seeds_new", "seeds_old"))
    one_run = np.where(table["scale"] == "full", SEED_SD["full"], SEED_SD["smaller"])
    # Common seeds save nothing between different programs: their scores hardly correlate by seed. So pairs count as none.
    apart = one_run * np.sqrt(1 / new + 1 / old)
    together = WEIGHTS_SD / np.sqrt(np.minimum(new, old))
    return np.hypot(np.where(table["pairing"] == "weights", together, apart), 10.0**-digits / np.sqrt(12))


def about(name: str, table: pd.DataFrame | None = None) -> pd.DataFrame:
    """The rows about a technique, or those whose change names it where the catalogue has no such technique."""
    table = load() if table is None else table
    here = table["technique"].str.split().map(lambda names: name in names)
    return table[here] if here.any() else table[table["change"].str.contains(name, case=False, regex=False)]


def summary(table: pd.DataFrame | None = None) -> pd.DataFrame:
    """Combine the rows about one change: by a random-effects model, over sources.

    Rows with a doubt are left out, and so are rows that changed several techniques. Switching a technique on is one change
    however it was set; of a knob, the same values make one change. The rows of one source are averaged first, and their mean
    has the mean of their errors: they share a program, so that they are no independent witnesses.

    Args:
        table: of `load`.

    Returns:
        a row a change and scale (``all``, and ``full`` and ``smaller`` where both occur): technique, knob, instead_of,
        change, scale, delta_bpb, se, low, high (95 %, of the mean over settings), between (standard deviation of the effect
        between settings), p_equal (chance of so different estimates if the effect were equal everywhere), sources, better
        (sources in which it was better), rows. From one source, ``between`` and ``p_equal`` are missing and all rests on the
        assumed error.
    """
    table = load() if table is None else table
    table = table[(table["doubt"] == "") & (table["technique"].str.split().str.len() == 1)]
    change = table["change"].where((table["knob"] != "") | (table["instead_of"] != ""), "switched on")
    cost = np.where(table["metric"] == "cost", "cost", "score")
    rows = []
    for (technique, knob, instead, told, _), part in table.groupby(
        ["technique", "knob", "instead_of", change.rename("told"), pd.Series(cost, table.index, name="cost")], sort=False
    ):
        scales = [s for s in ("full", "smaller") if (part["scale"] == s).any()]
        for scale in ["all", *(scales if len(scales) > 1 else [])]:
            here = part if scale == "all" else part[part["scale"] == scale]
            sources = here.groupby("source", sort=False)[["delta_bpb", "se_assumed"]].mean()
            found = random_effects(sources["delta_bpb"].to_numpy(), sources["se_assumed"].to_numpy())
            numbers = (found.mean, found.se, found.low, found.high, found.between, found.p_equal, found.estimates)
            rows.append((technique, knob, instead, told, scale, *numbers, int((sources["delta_bpb"] < 0).sum()), len(here)))
    return pd.DataFrame(rows, columns=SUMMARY).astype(dict.fromkeys(SUMMARY[:5], object))


def beside(contributions: pd.DataFrame) -> pd.DataFrame:
    """Put what was published beside what was measured.

    Args:
        contributions: of `golflab.analysis.effects.contribution.contribution`, or any table with technique, delta_bpb, low and
            high.

    Returns:
        a row for each of its techniques about which something was published, in its order: technique, delta_bpb, low, high
        (measured); published, published_low, published_high (mean over all settings, 95 %); published_between; sources,
        better (as in `summary`); same_sign; agreement (``yes`` or ``no`` where both intervals exclude zero, otherwise
        ``unclear``; empty where nothing was measured).
    """
    contributions = contributions.astype({"technique": object})  # of a table without rows, too
    told = _switched_on(_about_any(contributions["technique"]))
    names = {"delta_bpb": "published", "low": "published_low", "high": "published_high", "between": "published_between"}
    told = told[["technique", *names, "sources", "better"]].rename(columns=names)
    out = contributions[["technique", "delta_bpb", "low", "high"]].merge(told, on="technique", how="inner")
    measured, known = out["delta_bpb"].to_numpy(float), out["delta_bpb"].notna().to_numpy()
    same = np.sign(measured) == np.sign(out["published"].to_numpy(float))
    clear = ((out["low"] > 0) | (out["high"] < 0)) & ((out["published_low"] > 0) | (out["published_high"] < 0))
    out["same_sign"] = pd.array(np.where(known, same, None), dtype="boolean")
    words = np.where(clear, np.where(same, "yes", "no"), "unclear")
    return out.assign(agreement=np.where(known, words, ""))


def at_full_scale(names: Sequence[str]) -> pd.DataFrame:
    """What entries published about switching techniques on at the challenge's scale.

    Rows from smaller settings are left out. Rows that do not state their scale stay: entries are made for the challenge.

    Args:
        names: of techniques.

    Returns:
        a row for each technique about which something was published, in the order of ``names``: technique, delta_bpb, se, low,
        high (95 %, of the mean over settings), between (standard deviation of the effect between settings), sources, better: as
        in `summary`.
    """
    rows = _about_any(pd.Series(list(names), dtype=object))
    told = _switched_on(rows[rows["scale"] != "smaller"])
    order = {name: place for place, name in enumerate(names)}
    told = told[told["technique"].isin(order)].sort_values("technique", key=lambda found: found.map(order))
    kept = ["technique", "delta_bpb", "se", "low", "high", "between", "sources", "better"]
    return told[kept].reset_index(drop=True)


def _switched_on(rows: pd.DataFrame) -> pd.DataFrame:
    """The summary's row about switching each technique on, over all scales."""
    told = summary(rows)
    told = told[(told["knob"] == "") & (told["instead_of"] == "") & (told["scale"] == "all")]
    return told.drop_duplicates("technique")  # of a technique with effects on score and cost, the first


def _about_any(names: pd.Series) -> pd.DataFrame:
    """The rows about any of these techniques."""
    table, wanted = load(), set(names)
    return table[table["technique"].str.split().map(lambda here: bool(wanted & set(here)))]
