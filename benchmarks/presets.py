"""Every preset trained at one scale with several seeds: bits per byte with errors, and bytes, as the table of docs/presets.md.

python -m benchmarks.presets --seeds 3                # every preset, the full schedule of the proxy
python -m benchmarks.presets --table                  # the table of what is there, training nothing

The byte limit is lifted, so that all of them end; the column `fits` says which would have met the proxy's. The forecast is the
one from the recipe alone, before any run. Started again, it continues where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from golflab.analysis.comparison.paired import compare
from golflab.analysis.table import load
from golflab.model.recipe import counted_code
from golflab.model.run import forecast_bytes
from golflab.search.experiment.start import resume, run_plan
from golflab.spaces.presets import PRESETS, preset

LIMIT = 16_000_000


def table(folder: Path) -> pd.DataFrame:
    """One row per preset: means over seeds, and the difference to the baseline paired by seed and document."""
    runs = load(folder / "trials")
    failed = runs[runs["state"] != "complete"]
    if len(failed):
        print(failed[["preset", "seed", "state", "reason"]].to_string())
    done = runs[runs["state"] == "complete"]
    rows = []
    for name in (n for n in PRESETS if (done["preset"] == n).any()):
        own, small = done[done["preset"] == name], preset(name)
        counted = counted_code(small, int(own["code_bytes"].max()))  # by the proxy's limit, not by the lifted one
        row = {
            "preset": name,
            "seeds": len(own),
            "parameters": int(own["parameters"].iloc[0]),
            "bpb": own["bpb"].mean(),
            "sd": own["bpb"].std(),
            "bytes": own["bytes"].mean(),
            "forecast": forecast_bytes(preset(name).with_(limit=LIMIT)).mid,
            "fits": bool((own["bytes"] - own["code_bytes"] + counted <= small.limit).all()),
            "tokens_per_second": own["tokens_per_second"].mean(),
        }
        rows.append(row | _against_baseline(done, name))
    return pd.DataFrame(rows)


def _against_baseline(done: pd.DataFrame, name: str) -> dict[str, float]:
    first = done.drop_duplicates("preset").set_index("preset")["recipe"]
    if name == "baseline" or "baseline" not in first:
        return {}
    found = compare(done, first[name], first["baseline"]).iloc[0]
    return {"delta": found["delta_bpb"], "se": found["se"], "p": found["p"]}


def markdown(found: pd.DataFrame) -> str:
    """The table as docs/presets.md has it."""
    head = "| preset | parameters | bpb | to baseline ± se | p | bytes | forecast | fits | tokens/s |"
    lines = [head, "|" + "|".join(["---"] + ["---:"] * 8) + "|"]
    for r in found.itertuples():
        delta, p = ("", "") if pd.isna(r.delta) else (f"{r.delta:+.4f} ± {r.se:.4f}", f"{r.p:.2g}")
        error = (r.forecast - r.bytes) / r.bytes
        lines.append(
            f"| `{r.preset}` | {r.parameters:,} | {r.bpb:.4f} ± {r.sd:.4f} ({r.seeds}) | {delta} | {p} | {r.bytes:,.0f} "
            f"| {error:+.1%} | {'yes' if r.fits else 'no'} | {r.tokens_per_second:,.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS))
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--name", default="presets")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    folder = Path(options.runs) / options.name
    if not options.table:
        if (folder / "experiment.json").exists():
            resume(options.name, options.runs)
        else:
            changes = {"limit": LIMIT} | ({"tokens": options.tokens} if options.tokens else {})
            plan = [preset(n).with_(seed=s, **changes) for s in range(options.seeds) for n in options.presets]
            run_plan(plan, name=options.name, runs=options.runs, limit=LIMIT)
    print(markdown(table(folder)))


if __name__ == "__main__":
    main()
