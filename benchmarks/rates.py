"""Which learning rates and momentum suit a scale and a duration? A sweep around the baseline's, one knob at a time, with seeds.

    python -m benchmarks.rates --scale nano --durations 5 20 --seeds 2
    python -m benchmarks.rates --table                    # what is there so far, training nothing

Every finished run is a line of ``rates.jsonl`` in ``--folder``; started again, the sweep goes on where it was. A setting is
compared with the baseline's own rates on the same seeds. The table gives the difference with its standard error, and the
best multiplier by a parabola through the differences over the logarithm of the multiplier.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from golflab.model.recipe import Recipe
from golflab.model.run import run
from golflab.model.techniques.train.adam_groups import AdamGroups
from golflab.model.techniques.train.muon import Muon
from golflab.spaces.presets import preset
from golflab.spaces.scales import DURATIONS, SCALES, at_duration

FACTORS = (0.25, 0.5, 2.0, 4.0)
MOMENTA = (0.9, 0.98)
SETTINGS = [("as it is", 1.0), *(("momentum", m) for m in MOMENTA)]
SETTINGS += [(rates, f) for rates in ("muon", "adam") for f in FACTORS]


def recipe(scale: str, duration: float, setting: tuple[str, float], seed: int) -> Recipe:
    """The baseline at a scale and duration with one setting changed."""
    kind, value = setting
    muon, adam = Muon(), AdamGroups()
    if kind == "muon":
        muon = dataclasses.replace(muon, lr=muon.lr * value)
    if kind == "momentum":
        muon = dataclasses.replace(muon, momentum=value)
    if kind == "adam":
        adam = dataclasses.replace(adam, table_lr=adam.table_lr * value, scale_lr=min(0.3, adam.scale_lr * value))
    return at_duration(preset("baseline", scale), duration).with_(muon, adam, seed=seed)  # not with the momentum of `paced`


def sweep(scales: list[str], durations: list[float], seeds: int, folder: Path) -> None:
    """Run what is missing: short runs first, and of each the seeds one after the other."""
    file = folder / "rates.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    done = {json.loads(line)["recipe"] for line in file.read_text().splitlines()} if file.exists() else set()
    for scale in scales:
        for duration in durations:
            for seed in range(seeds):
                for setting in SETTINGS:
                    asked = recipe(scale, duration, setting, seed)
                    if asked.hash in done:
                        continue
                    found = run(asked, None, folder / "cache", device="cpu", rungs=False, float_score=False)
                    told = {"recipe": asked.hash, "scale": scale, "duration": duration, "seed": seed, "setting": setting[0]}
                    told |= {"value": setting[1], "bpb": found.bpb, "seconds": found.seconds, "state": found.state}
                    with file.open("a") as out:
                        out.write(json.dumps(told) + "\n")


def table(folder: Path) -> pd.DataFrame:
    """Difference to the baseline's own rates, paired by seed: scale, duration, setting, value, delta, se, seeds."""
    runs = pd.read_json(folder / "rates.jsonl", lines=True)
    keys = ["scale", "duration", "seed"]
    own = runs[runs["setting"] == "as it is"].set_index(keys)["bpb"].rename("own")
    paired = runs[runs["setting"] != "as it is"].join(own, on=keys)
    paired["delta"] = paired["bpb"] - paired["own"]
    grouped = paired.groupby(["scale", "duration", "setting", "value"])["delta"]
    out = grouped.agg(delta="mean", sd="std", seeds="count").reset_index()
    return out.assign(se=out["sd"] / np.sqrt(out["seeds"])).drop(columns="sd")


def best(told: pd.DataFrame) -> pd.DataFrame:
    """The lowest point of a parabola over log multiplier, by scale, duration and kind of rate; inside the range swept."""
    rows = []
    for keys, part in told[told["setting"].isin(["muon", "adam"])].groupby(["scale", "duration", "setting"]):
        x, y = np.append(np.log(part["value"]), 0.0), np.append(part["delta"], 0.0)
        if len(x) < 4:
            continue
        curve = np.polynomial.Polynomial.fit(x, y, 2).convert()
        slope, bend = curve.coef[1:]
        at = float(np.clip(-slope / (2 * bend) if bend > 0 else x[y.argmin()], x.min(), x.max()))
        rows.append((*keys, float(np.exp(at)), float(curve(at))))
    return pd.DataFrame(rows, columns=["scale", "duration", "rates", "best multiplier", "expected gain"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", nargs="*", choices=list(SCALES), default=["nano"])
    parser.add_argument("--durations", nargs="*", type=float, default=list(DURATIONS[:2]))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/rates"))
    parser.add_argument("--table", action="store_true", help="only print what is there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.table:
        sweep(given.scale, given.durations, given.seeds, given.folder)
    told = table(given.folder)
    print(told.to_string(index=False, float_format=lambda v: f"{v:.4f}"))
    print(best(told).to_string(index=False, float_format=lambda v: f"{v:.4f}"))


if __name__ == "__main__":
    main()
