"""How long 100,000 records take to load, to analyse and to become a report, on one core, and in how much memory.

python -m benchmarks.many_records                     # processor seconds by step, peak memory
python -m benchmarks.many_records --records 10000
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from golflab.analysis.report.report import report
from golflab.analysis.table import load

TECHNIQUES = 40


def write(path: Path, records: int) -> None:
    """Records of a search over planted effects, one JSON line each, with curves as trials leave them."""
    rng = np.random.default_rng(0)
    effects = np.where(np.arange(TECHNIQUES) % 3, rng.uniform(-0.008, 0.002, TECHNIQUES), 0.0)
    on = rng.random((records, TECHNIQUES)) < 0.5
    bpb = 2.0 + on @ effects + rng.normal(0, 0.0007, records)
    size = 380_000 + on @ rng.uniform(-4000, 9000, TECHNIQUES)
    shape = {"layers": 5, "width": 128}
    with path.open("w") as file:
        for k in range(records):
            techniques: dict[str, Any] = {f"technique_{i:02d}": {} for i in np.flatnonzero(on[k])}
            spec = {
                "shape": shape,
                "schedule": {"tokens": 524_288, "seconds": None},
                "data": {"corpus": "sotu", "tokenizer": "auto", "split": "dev"},
                "techniques": techniques,
                "limit": 600_000,
                "seed": 0,
                "name": "planted",
            }
            curve = [
                {"step": s, "tokens": s * 4096, "seconds": s * 0.3, "loss": 6.9 - 4.4 * (s / 128) ** 0.3}
                | ({"bpb": bpb[k] + 0.4 * (1 - s / 128)} if s % 32 == 0 else {})
                for s in range(8, 129, 8)
            ]
            body = {
                "recipe": f"{k:012x}",
                "seed": 0,
                "preset": "planted",
                "state": "complete",
                "spec": spec,
                "bpb": bpb[k],
                "bytes": int(size[k]),
                "bytes_forecast": {"low": size[k] * 0.98, "mid": size[k], "high": size[k] * 1.02},
                "tokens": 524_288,
                "seconds": 40.0,
                "trained": True,
                "training": f"t{k}",
                "curve": curve,
            }
            file.write(json.dumps(body) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        records = Path(place) / "many.jsonl"
        write(records, options.records)
        print(f"{options.records:,} records, {records.stat().st_size / 1e6:.0f} MB of JSON lines")
        print(f"load: {_seconds(lambda: load(records)):.1f} s of one core")
        spent = _seconds(lambda: report(records).html(records.with_suffix(".html")))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"load, analyse and write the report: {spent:.1f} s of one core, {peak:.2f} GB at most")


def _seconds(action: Callable[[], object]) -> float:
    before = time.process_time()
    action()
    return time.process_time() - before


if __name__ == "__main__":
    main()
