"""Columns of a table: values of many records as NumPy arrays, also where some runs have none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

PARTS = ("shape", "schedule")  # of a recipe, whose fields become columns where they vary


class Sparse:
    """Columns that not every run has, collected as row numbers and values by part and key."""

    def __init__(self) -> None:
        self.flags: dict[str, list[int]] = {}
        self.parts: dict[str, dict[str, tuple[list[int], list[Any]]]] = {}

    def add(self, row: int, spec: Mapping[str, Any], stages: Mapping[str, float]) -> None:
        """Note the techniques, knobs, shape, schedule and stages of one run."""
        for name, settings in (spec.get("techniques") or {}).items():
            if settings is None:  # a parquet struct names absent techniques too
                continue
            if name not in self.flags:
                self.flags[name] = []
            self.flags[name].append(row)
            if settings:
                self._note(name, settings, row)
        for part in PARTS:
            self._note(part, spec.get(part) or {}, row)
        self._note("stage", stages, row)

    def _note(self, part: str, values: Mapping[str, Any], row: int) -> None:
        here = self.parts.setdefault(part, {})
        for key, value in values.items():
            if key not in here:
                here[key] = ([], [])
            rows, filled = here[key]
            rows.append(row)
            filled.append(value)

    def columns(self, rows: int, into: dict[str, Any]) -> list[str]:
        """Add a column for everything that varies; return the techniques every run had."""
        always = []
        for name in sorted(self.flags):
            if len(self.flags[name]) == rows:
                always.append(name)
            else:
                into[name] = np.zeros(rows, bool)
                into[name][self.flags[name]] = True
        for part in sorted(self.parts):
            for key, (at, values) in sorted(self.parts[part].items()):
                partial = len(at) < rows and part not in self.flags
                if part == "stage" or partial or _varies(values):
                    into[f"{part}.{key}"] = _column(at, values, rows)
        return always


def _varies(values: list[Any]) -> bool:
    first = values[0]
    return any(v != first for v in values)


def floats(values: list[Any]) -> np.ndarray:
    """Float64; missing values become NaN."""
    return np.array([np.nan if v is None else v for v in values], float)


def whole_numbers(values: list[Any]) -> Any:
    """int64, or Int64 where some are missing; floats where they are no whole numbers (or too large for one)."""
    numbers = floats(values)
    known = ~np.isnan(numbers)
    if not ((numbers[known] == np.floor(numbers[known])) & (np.abs(numbers[known]) < 2.0**63)).all():
        return numbers
    whole = np.array([0 if gap else int(v) for v, gap in zip(values, ~known, strict=True)], np.int64)
    return whole if known.all() else pd.arrays.IntegerArray(whole, ~known)


def times(values: list[Any]) -> pd.Series:
    """UTC times; missing values become NaT."""
    return pd.to_datetime(pd.Series(values, dtype=object), utc=True, format="ISO8601", errors="coerce")


def machine_of(facts: Mapping[str, str]) -> str:
    """The machine as text: its kind and a mark of its name; records of earlier versions have the kind alone, or nothing."""
    if host := facts.get("host"):
        return ", ".join(filter(None, (facts.get("device"), f"host {host}")))
    return str(facts.get("pace") or facts.get("device") or "")


def machines_of(counts: Counter[tuple[Any, ...]]) -> dict[str, dict[str, int]]:
    """Versions and hardware: key -> value -> number of runs."""
    seen: dict[str, dict[str, int]] = {}
    for facts, runs in counts.items():
        for key, value in facts:
            at = seen.setdefault(key, {})
            at[str(value)] = at.get(str(value), 0) + runs
    return seen


def _column(at: list[int], values: list[Any], rows: int) -> np.ndarray:
    """A knob's column: float with NaN where every value is a number, otherwise text with None."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values if v is not None):
        column: np.ndarray = np.full(rows, np.nan)
        column[at] = floats(values)
    else:
        column = np.full(rows, None, object)
        column[at] = [str(v) for v in values]
    return column


def condition_of(schedule: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Schedule and data as text. The batch is part of how a recipe trains, not of its condition."""
    bound = [f"{schedule[k]:g} {k}" for k in ("tokens", "seconds") if schedule.get(k) is not None]
    return ", ".join([*bound, *(str(data[k]) for k in ("corpus", "tokenizer", "split") if k in data)])
