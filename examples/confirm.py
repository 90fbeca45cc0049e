"""Is what a search found really better? ``python -m examples.confirm NAME --seeds 4``. Started again, it goes on where it was.

The best combination of a search was chosen for its score, so its score flatters it. Here it and the presets the search began
from are trained anew, with seeds no trial had and the search's own tokens and limit, and scored on the test part, which
no search sees. Differences are paired by seed and document (`golflab.analysis.comparison.paired`), their p-values adjusted by
Holm.
"""

import argparse
import dataclasses
from pathlib import Path

import pandas as pd

from golflab.analysis.comparison.paired import compare
from golflab.analysis.comparison.ranking import arms
from golflab.analysis.inference.significance import holm
from golflab.analysis.table import load
from golflab.model.recipe import Recipe
from golflab.model.record import records_in
from golflab.search.experiment.options import Options
from golflab.search.experiment.start import options_of, resume, run_plan
from golflab.spaces.presets import PRESETS

FIRST_SEED = 100


def best(folder: Path) -> Recipe:
    """The combination with the fewest bits per byte that fits."""
    records = [r for _, r in records_in(folder / "trials") if r.state == "complete" and r.bpb is not None]
    return Recipe.from_json(min(records, key=lambda r: r.bpb or 0.0).spec)


def contenders(options: Options) -> dict[str, Recipe]:
    """The winner and the sound presets, by name."""
    named = [name for name in PRESETS if not name.endswith("_as_published")]
    presets = {name: dataclasses.replace(options, preset=name).recipe() for name in named}
    return {"found": best(options.folder)} | presets


def table(folder: Path, names: dict[str, str]) -> pd.DataFrame:
    """One row per contender: its mean and the found combination's difference to it, with p-values.

    Args:
        folder: of the confirming runs.
        names: recipe hash of a contender's first seed -> its name.
    """
    runs = load(folder)
    done = runs[runs["state"] == "complete"].reset_index(drop=True)
    arm = arms(done)
    firsts = {name: recipe for recipe, name in names.items() if recipe in set(done["recipe"])}
    rows = []
    for name, recipe in firsts.items():
        own = done[arm == arm[done.index[done["recipe"] == recipe][0]]]
        row = {"contender": name, "seeds": len(own), "bpb": own["bpb"].mean(), "sd": own["bpb"].std()}
        row["bytes"] = own["bytes"].max()
        if name != "found":
            gap = compare(done, firsts["found"], recipe).iloc[0]
            row |= {"found_minus": gap["delta_bpb"], "se": gap["se"], "p": gap["p"]}
        rows.append(row)
    found = pd.DataFrame(rows)
    return found.assign(p_holm=holm(found["p"].to_numpy()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a finished search")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--runs", default="runs")
    given = parser.parse_args()
    options, name = options_of(given.name, given.runs), f"{given.name}-confirmed"
    asked = contenders(options)
    if (Path(given.runs) / name / "experiment.json").exists():
        resume(name, given.runs)
    else:
        plan = [r.with_(seed=FIRST_SEED + k, split="test") for k in range(given.seeds) for r in asked.values()]
        run_plan(plan, name=name, runs=given.runs, limit=options.recipe().limit)
    names = {r.with_(seed=FIRST_SEED, split="test").hash: label for label, r in asked.items()}
    print(table(Path(given.runs) / name, names).to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
