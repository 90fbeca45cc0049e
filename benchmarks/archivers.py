"""File archivers that are programs of their own, for comparison with golflab's codecs."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np

from golflab.model.compression.artifact import joined
from golflab.model.compression.grid import Quantised
from golflab.model.shape import Shape
from golflab.model.technique import parse

ARCHIVERS = {
    "lrzip": ["lrzip", "-z", "-L", "9", "-q", "-o"],
    "zpaq": ["zpaq", "a"],
}  # followed by the target; zpaq wants it first


def archived(quantised: dict[str, Quantised], layout: str, name: str) -> int:
    """Bytes of an archiver's file of all planes as a layout lays them out."""
    built = parse(layout).build(Shape())
    planes = [plane for q in quantised.values() if q.grid for plane in built.spread(q.values.numpy(), q.grid)]
    numbers = [(q.values if q.scales is None else q.scales).numpy().ravel() for q in quantised.values()]
    planes += built.spread_floats(np.concatenate(numbers))
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "planes", Path(folder) / f"planes.{name}"
        source.write_bytes(joined(planes))
        order = [str(target), str(source), "-m5"] if name == "zpaq" else [str(target), str(source)]
        subprocess.run([*ARCHIVERS[name], *order], check=True, capture_output=True)
        return target.stat().st_size
