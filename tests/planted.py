"""Worlds whose true effects are known, and the records a search over them would have left. For tests only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MACHINE = {"torch": "2.13.0", "python": "3.11.7", "device": "cpu", "cores": "2"}


@dataclass(frozen=True)
class Planted:
    """True effects (0/1 coding): bpb = 2 + effects·x + pairs + training noise + scoring noise; bytes linear in x."""

    names: tuple[str, ...]
    effects: np.ndarray
    pairs: dict[tuple[int, int], float]
    bytes: np.ndarray
    noise: float = 0.0007

    @staticmethod
    def draw(seed: int, count: int = 12, noise: float = 0.0007) -> Planted:
        generator = np.random.default_rng(seed)
        names = tuple(f"technique_{chr(97 + k)}" for k in range(count))
        effects = np.where(np.arange(count) % 3 == 0, 0.0, -generator.uniform(0.001, 0.008, count))
        pairs = {(1, 2): 0.002, (4, 5): -0.0015} if count > 5 else {}
        return Planted(names, effects, pairs, generator.integers(-4000, 9000, count).astype(float), noise)

    def true(self, x: np.ndarray) -> np.ndarray:
        """(runs,) noiseless bits per byte of (runs, techniques) on/off rows."""
        return 2.0 + x @ self.effects + sum(v * x[:, i] * x[:, j] for (i, j), v in self.pairs.items())

    def average_effects(self) -> np.ndarray:
        """Effect of each technique averaged over the others."""
        out = self.effects.astype(float).copy()
        for (i, j), v in self.pairs.items():
            out[i] += v / 2
            out[j] += v / 2
        return out

    def records(self, x: np.ndarray, seeds: np.ndarray | None = None, seed: int = 0, limit: int = 400_000) -> list[dict]:
        """A complete record for each row of ``x``, with curves and forecasts."""
        generator = np.random.default_rng(seed)
        seeds = np.zeros(len(x), int) if seeds is None else seeds
        bpb = self.true(x) + generator.normal(0, self.noise, len(x))
        size = 380_000 + x @ self.bytes + generator.normal(0, 150, len(x))
        return [self._record(x[k], int(seeds[k]), float(bpb[k]), float(size[k]), limit, k) for k in range(len(x))]

    def _record(self, on: np.ndarray, seed: int, bpb: float, size: float, limit: int, k: int) -> dict:
        tokens = 524_288
        curve = [
            {"step": s, "tokens": s * 4096, "seconds": s * 0.3, "loss": 6.9 - 4.4 * (s / 128) ** 0.3}
            | ({"bpb": bpb + 0.4 * (1 - s / 128)} if s % 32 == 0 else {})
            for s in range(8, 129, 8)
        ]
        spec = {
            "shape": {"layers": 5, "width": 128},
            "schedule": {"tokens": tokens, "seconds": None},
            "data": {"corpus": "sotu", "tokenizer": "auto", "split": "dev"},
            "techniques": {n: {} for n, o in zip(self.names, on, strict=True) if o} | {"bedrock": {"theta": 0.5}},
            "limit": limit,
            "seed": seed,
            "name": "planted",
        }
        return {
            "recipe": f"{k:012x}",
            "seed": seed,
            "preset": "planted",
            "state": "complete",
            "spec": spec,
            "reason": "",
            "bpb": bpb,
            "bpb_float": bpb - 0.01,
            "bytes": int(size),
            "code_bytes": 20_000,
            "bytes_forecast": {"low": size * 0.98, "mid": size * 1.003, "high": size * 1.02},
            "parameters": 700_000,
            "tokens": tokens,
            "seconds": 40.0 + 0.5 * float(on.sum()),
            "tokens_per_second": tokens / 40,
            "trained": True,
            "training": f"t{k}",
            "stages": {},
            "curve": curve,
            "notes": [],
            "machine": MACHINE,
        }


def write_experiment(folder: Path, records: list[dict], **experiment: object) -> Path:
    """Lay records out as a search does."""
    for record in records:
        place = folder / "trials" / str(record["recipe"])
        place.mkdir(parents=True)
        (place / "record.json").write_text(json.dumps(record))
    (folder / "experiment.json").write_text(
        json.dumps({"name": folder.name, "preset": "planted", "space": "techniques", "scale": "proxy"} | experiment)
    )
    return folder
