"""Did a ladder predict? A rung held out, and effects that entries published, as tables in Markdown.

    python -m benchmarks.ladder_check runs/web-ladder                     # the dearest rung is held out
    python -m benchmarks.ladder_check runs/web-ladder --hold-out micro:20 # another one
    python -m benchmarks.ladder_check runs/web-ladder --write docs/ladder/web.csv.gz
    python -m benchmarks.ladder_check --from-table docs/ladder/web.csv.gz # the same tables, from the file alone

The file has one row a run: technique (empty: what the others are compared with), on (whether the run has it), scale, parameters
and tokens_per_parameter of the rung, tokens, seed, bpb, se_documents (standard error of bpb over documents), seconds of
training, bytes of the artifact.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import pandas as pd

from golflab.analysis.evidence.published import at_full_scale
from golflab.analysis.ladder.check import LEVELS, against, held_out
from golflab.analysis.ladder.forecast import Ladder, fit, predict
from golflab.analysis.ladder.hierarchy import DRAWS
from golflab.analysis.ladder.runs import arms, paired
from golflab.analysis.table import read
from golflab.model.record import load_documents
from golflab.spaces.presets import preset
from golflab.spaces.scales import SCALES, parameters_of

DIGITS = {"bpb": 6, "se_documents": 6, "seconds": 1, "tokens_per_parameter": 4}


def runs_of(folder: Path) -> pd.DataFrame:
    """A row per finished run of an experiment: those of `golflab.analysis.ladder.runs.arms`, and se_documents."""
    table = read(folder)
    found = arms(table)
    errors = [_over_documents(Path(str(place))) for place in table.loc[found.index, "folder"]]
    found.insert(list(found.columns).index("bpb") + 1, "se_documents", errors)
    order = ["parameters", "tokens_per_parameter", "technique", "on", "seed"]
    return found.sort_values(order, ignore_index=True).round(DIGITS)


def _over_documents(folder: Path) -> float:
    """Standard error of a run's bits per byte over documents, as of a ratio of sums; NaN where they were not kept."""
    if not (folder / "documents.npz").is_file():
        return float("nan")
    bits, sizes = load_documents(folder)
    away = bits - bits.sum() / sizes.sum() * sizes
    return float(np.sqrt(len(bits) / (len(bits) - 1) * (away**2).sum()) / sizes.sum()) if len(bits) > 1 else float("nan")


def write(runs: pd.DataFrame, path: Path) -> None:
    """Write the runs as a compressed file, the same bytes for the same runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:  # neither a name nor a time in it
        file.write(runs.to_csv(index=False).encode())


def read_runs(path: Path) -> pd.DataFrame:
    """Read what `write` wrote.

    Raises:
        ValueError: there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist. Write it with --write from an experiment.")
    return pd.read_csv(path, keep_default_na=False, na_values={"bpb": "", "se_documents": "", "seconds": "", "bytes": ""})


def rung_named(text: str, differences: pd.DataFrame, name: str = "baseline") -> tuple[float, float]:
    """Parameters and tokens per parameter of a rung like ``micro:20``.

    Raises:
        ValueError: it does not read like this.
    """
    scale, _, duration = text.partition(":")
    if scale not in SCALES or not duration.replace(".", "", 1).isdigit():
        raise ValueError(f"hold-out={text!r} must read like micro:20: one of {', '.join(SCALES)}, and tokens per parameter.")
    size = float(parameters_of(preset(name, scale)))
    near = differences["parameters"].unique()
    return float(near[np.abs(np.log(near / size)).argmin()]), float(duration)


# ------------------------------------------------------------------------------------------------ tables


def markdown(table: pd.DataFrame) -> str:
    """A table of texts as Markdown; all columns but the first to the right."""
    lines = [list(table.columns), ["---", *["---:"] * (len(table.columns) - 1)], *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def summary_table(summary: pd.DataFrame) -> pd.DataFrame:
    """`golflab.analysis.ladder.check.agreement` in words."""
    rows = []
    for row in summary.itertuples(index=False):
        shares = [getattr(row, f"coverage_{level * 100:.0f}") for level in LEVELS]
        clear = f"{row.clear_signs:.0%} of {row.clear:.0f}" if row.clear else "none is clear"
        told = {
            "way": row.way,
            "right signs (95 %)": f"{row.signs:.0%} ({row.signs_low:.0%} … {row.signs_high:.0%})",
            "of clear effects": clear,
            "rank correlation (95 %)": f"{row.rank_correlation:+.2f} ({row.rank_low:+.2f} … {row.rank_high:+.2f})",
            "mean error": f"{row.error:.4f}",
        }
        named = "/".join(f"{level:.0%}".rstrip("%") for level in LEVELS)
        told[f"coverage of {named} % intervals"] = "–" if np.isnan(shares[0]) else " / ".join(f"{s:.0%}" for s in shares)
        rows.append(told)
    return pd.DataFrame(rows)


def effects_table(told: pd.DataFrame, where: str) -> pd.DataFrame:
    """By technique: what was predicted, what was measured, and the two naive numbers."""
    return pd.DataFrame(
        {
            "technique": told["technique"],
            "smallest rung": [f"{v:+.4f}" for v in told["smallest"]],
            "largest rung": [f"{v:+.4f}" for v in told["largest"]],
            f"predicted {where} (90 %)": _interval(told["delta_full"], told["low"], told["high"]),
            f"measured {where} ± se": _with_error(told["measured"], told["measured_se"]),
            "inside": np.where((told["low_90"] <= told["measured"]) & (told["measured"] <= told["high_90"]), "yes", "no"),
        }
    )


def published_table(ladder: Ladder, differences: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """By technique: measured on the longest rung of every scale, predicted, and published where anything was."""
    told, keys = predict(ladder), ["parameters", "scale"]
    out = told[["technique"]].copy()
    longest = differences.sort_values("tokens_per_parameter").groupby(["technique", *keys]).tail(1)
    for (_, scale), rows in longest.groupby(keys):
        words = dict(zip(rows["technique"], _with_error(rows["delta_bpb"], rows["se"]), strict=True))
        out[f"measured at {scale}, longest"] = [words.get(name, "–") for name in told["technique"]]
    out["predicted at full scale (90 %)"] = _interval(told["delta_full"], told["low"], told["high"])
    both = out.join(published.set_index("technique"), on="technique")
    known, sources = both["delta_bpb"].notna(), both["sources"].fillna(0).astype(int)
    words = _interval(both["delta_bpb"], both["low"], both["high"])
    out["published (95 %), sources"] = [f"{w}, {s}" if k else "–" for w, s, k in zip(words, sources, known, strict=True)]
    return out.assign(verdict=told["verdict"])


def _interval(middle: pd.Series, low: pd.Series, high: pd.Series) -> list[str]:
    return [f"{m:+.4f} ({a:+.4f} … {b:+.4f})" for m, a, b in zip(middle, low, high, strict=True)]


def _with_error(value: pd.Series, error: pd.Series) -> list[str]:
    return [f"{v:+.4f} ± {e:.4f}" if np.isfinite(e) else f"{v:+.4f}" for v, e in zip(value, error, strict=True)]


# ------------------------------------------------------------------------------------------------ the report


def check(runs: pd.DataFrame, hold_out: str | None = None, draws: int = DRAWS) -> str:
    """Both tables of a ladder, with what they say, as Markdown."""
    differences = paired(runs)
    return "\n\n".join([_first(runs, differences), *_held_out(differences, hold_out, draws), *_published(differences, draws)])


def _first(runs: pd.DataFrame, differences: pd.DataFrame) -> str:
    rungs = runs.drop_duplicates(["parameters", "tokens_per_parameter"]).sort_values(["parameters", "tokens_per_parameter"])
    told = ", ".join(f"{r.scale} × {r.tokens_per_parameter:.3g}" for r in rungs.itertuples(index=False))
    seeds = differences["replicates"]
    return (
        f"{len(runs)} runs, {differences['technique'].nunique()} techniques, {len(rungs)} rungs (parameters × tokens per "
        f"parameter): {told}. {seeds.min()} to {seeds.max()} seeds a rung."
    )


def _held_out(differences: pd.DataFrame, hold_out: str | None, draws: int) -> list[str]:
    size, duration = (None, None) if hold_out is None else rung_named(hold_out, differences)
    told, summary = held_out(differences, parameters=size, tokens_per_parameter=duration, draws=draws)
    words = (
        f"Predicted from the cheaper rungs, {len(told)} techniques. Intervals are for the measured number: its own error is "
        "part of them. If every effect were predicted perfectly, the mean error would be "
        f"{summary['error_of_truth'].iloc[0]:.4f}, from the seeds of this rung alone. *Clear* effects are further from 0 than "
        "1.64 of their errors."
    )
    tables = [markdown(summary_table(summary)), markdown(effects_table(told, "there"))]
    return [f"**A rung held out: {hold_out or 'the dearest one'}**", words, *tables]


def _published(differences: pd.DataFrame, draws: int) -> list[str]:
    ladder = fit(differences, draws=draws)
    published = at_full_scale(ladder.names)
    table = markdown(published_table(ladder, differences, published))
    if published.empty:
        return ["**At full scale**", "Entries published nothing about these techniques.", table]
    one = published.assign(se=np.hypot(published["se"], published["between"].fillna(0.0)))  # the effect in one more setting
    _, summary = against(ladder, one)
    words = (
        f"Published effects of {len(published)} techniques, as a random-effects mean over their sources. A ladder predicts one "
        "setting, so the error of a published effect is that of its mean and the spread between settings together. These "
        "errors are assumed: entries print none. Entries print what helped more often than what did not."
    )
    return ["**Published effects**", words, markdown(summary_table(summary)), table]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path, nargs="?", help="folder of the ladder")
    parser.add_argument("--from-table", type=Path, help="file of --write, in place of an experiment")
    parser.add_argument("--hold-out", help="the rung that is held out, like micro:20; by default the dearest")
    parser.add_argument("--write", type=Path, help="also write the runs to this file (….csv.gz)")
    given = parser.parse_args()
    if (given.experiment is None) == (given.from_table is None):
        parser.error("give the folder of a ladder, or --from-table FILE")
    runs = read_runs(given.from_table) if given.from_table else runs_of(given.experiment)
    if given.write:
        write(runs, given.write)
    print(check(runs, given.hold_out))


if __name__ == "__main__":
    main()
