"""A search from Python: ``python -m examples.search``. Run it again after Ctrl-C, or a kill: it goes on where it was."""

from pathlib import Path

import pandas as pd

from golflab.search.experiment.start import resume, search

NAME, RUNS = "from-python", "runs"


def main() -> pd.DataFrame:
    """Search for as long as is stated, and return what was found, best first."""
    if (Path(RUNS) / NAME / "experiment.json").exists():
        result = resume(NAME, RUNS)
    else:
        result = search(name=NAME, runs=RUNS, space="examples.my_space:SPACE", tokens=81_920, trials=6)
    print(f"{result.counts} in {result.seconds:.0f} s. {result.reason}")
    return pd.DataFrame(result.rows())[["recipe", "state", "bpb", "bytes", "techniques"]]


if __name__ == "__main__":
    print(main().to_string())
