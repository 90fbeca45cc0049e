"""What a search may spend besides its number of trials."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

UNBOUNDED = 10_000  # trials of a search that only its budget bounds


@dataclass(frozen=True)
class Budget:
    """A bound on what a search may spend besides its number of trials.

    Attributes:
        seconds: on the clock, over all resumes.
        trainings: runs that train; what reuses a training is free.
        gpu_seconds: GPUs of a trial times its training seconds, summed.
    """

    seconds: float = math.inf
    trainings: float = math.inf
    gpu_seconds: float = math.inf

    @staticmethod
    def parse(text: str) -> Budget:
        """Read ``2h``, ``90m``, ``300s``, ``50trainings`` or ``12gpuh``; several may be joined by commas.

        Raises:
            ValueError: it reads as none of these.
        """
        found: dict[str, float] = {}
        for part in filter(None, text.replace(" ", "").split(",")):
            match = re.fullmatch(r"(\d+(?:\.\d+)?)(h|m|s|trainings?|gpuh)", part)
            if match is None or float(match[1]) <= 0:
                raise ValueError(f"budget={text!r} must read like 2h, 90m, 300s, 50trainings or 12gpuh.")
            amount, unit = float(match[1]), match[2]
            key = "trainings" if unit.startswith("training") else "gpu_seconds" if unit == "gpuh" else "seconds"
            found[key] = amount * {"h": 3600, "m": 60, "gpuh": 3600}.get(unit, 1)
        return Budget(**found)
