"""From records to one DataFrame: a row per run, a boolean column per technique that varies.

Columns every table has (missing values where a run did not get that far):

=================  ====================================================================================
recipe, seed       hash of the recipe; its seed
preset, state      the label it was derived from; complete, pruned, failed or not_fitting
reason             why it did not complete
bpb, bpb_float     bits per byte after and before quantisation
bytes, code_bytes  of the packed artifact, code included; of the code alone
forecast_low/mid/high   bytes predicted before training
limit              the byte limit of the recipe
parameters, tokens, seconds, tokens_per_second, trained, training    as in `model.record.Record`
condition          schedule and data, as text: only runs of one condition can be compared
folder             where the record lies, or ""
curve              training curve: list of dictionaries
=================  ====================================================================================

Then one boolean column per technique (``smear_gate``), a float or text column per knob that varies
(``smear_gate.theta``) and per field of the shape or schedule that varies (``shape.layers``, ``schedule.tokens``), and
the seconds spent in each stage (``stage.train``).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PLAIN = (
    "recipe seed preset state reason bpb bpb_float bytes code_bytes parameters tokens seconds tokens_per_second trained training"
).split()
NUMBERS = "seed bpb bpb_float bytes code_bytes parameters tokens seconds tokens_per_second".split()
FORECAST = ("low", "mid", "high")
PARTS = ("shape", "schedule")


def load(path: str | Path) -> pd.DataFrame:
    """Read an experiment, any folder of records, or a ``.jsonl`` or ``.parquet`` file, into one table.

    The table's ``attrs`` hold ``experiment`` (what the search noted about itself, empty if nothing), ``always`` (techniques
    every run had), ``machines`` (versions and hardware with the number of runs) and ``notes`` of the records.

    Raises:
        ValueError: the path does not exist or holds no record.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"There is no {path}. Give the folder of an experiment (runs/NAME), or a .jsonl or .parquet file of records.")
    if path.suffix == ".parquet":
        return _from_parquet(path)
    table = from_records(_bodies(path))
    if table.empty:
        raise ValueError(f"{path} holds no record yet. A finished run leaves one in {path}/trials/<recipe>/record.json.")
    table.attrs["experiment"] = experiment(path)
    return table


def save(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table to one parquet file that `load` reads back in a fraction of the time (curves are left out)."""
    path = Path(path)
    flat = table.drop(columns=["curve"], errors="ignore")
    flat.attrs = dict(table.attrs)
    flat.to_parquet(path, compression="zstd")
    return path


def experiment(folder: Path) -> dict[str, Any]:
    """What the search noted about itself in ``experiment.json``; empty where there is none."""
    file = folder / "experiment.json"
    if not file.is_file():
        return {}
    body = json.loads(file.read_text())
    return body if isinstance(body, dict) else {}


def techniques(table: pd.DataFrame) -> list[str]:
    """The technique columns of a table: all boolean ones that are not fields of a record."""
    return [str(c) for c in table.columns if table[c].dtype == bool and c not in PLAIN and "." not in str(c)]


def knobs(table: pd.DataFrame) -> list[str]:
    """The knob columns of a table: ``technique.knob``, named after one of its technique columns or constant techniques."""
    owners = set(techniques(table)) | set(table.attrs.get("always", ()))
    return [str(c) for c in table.columns if str(c).partition(".")[0] in owners and "." in str(c)]


def shapes(table: pd.DataFrame) -> list[str]:
    """The columns of the body plan that vary."""
    return [str(c) for c in table.columns if str(c).startswith("shape.")]


def from_records(bodies: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Build the table from records as JSON holds them (an iterable is read once; nothing but columns is kept)."""
    plain: dict[str, list[Any]] = {name: [] for name in (*PLAIN, "condition", "folder", "limit", "curve")}
    forecast: dict[str, list[float]] = {f"forecast_{edge}": [] for edge in FORECAST}
    sparse: dict[str, dict[int, Any]] = {}
    machines: Counter[tuple[str, str]] = Counter()
    rows = 0
    for rows, body in enumerate(bodies, start=1):
        spec = body.get("spec") or {}
        for name in PLAIN:
            plain[name].append(body.get(name))
        plain["condition"].append(_condition(spec))
        plain["folder"].append(body.get("folder", ""))
        plain["limit"].append(spec.get("limit"))
        plain["curve"].append(body.get("curve") or [])
        edges = body.get("bytes_forecast") or {}
        for edge in FORECAST:
            forecast[f"forecast_{edge}"].append(edges.get(edge, np.nan))
        _spread(spec, rows - 1, sparse)
        for stage, seconds in (body.get("stages") or {}).items():
            sparse.setdefault(f"stage.{stage}", {})[rows - 1] = seconds
        machines.update((str(k), str(v)) for k, v in (body.get("machine") or {}).items())
    return _frame(plain | forecast, sparse, rows, machines)


def _spread(spec: Mapping[str, Any], row: int, sparse: dict[str, dict[int, Any]]) -> None:
    """Note the techniques, knobs and shape of one recipe under their column names."""
    for name, settings in (spec.get("techniques") or {}).items():
        if settings is None:  # a parquet struct names absent techniques too
            continue
        sparse.setdefault(name, {})[row] = True
        for key, value in settings.items():
            sparse.setdefault(f"{name}.{key}", {})[row] = value
    for part in PARTS:
        for key, value in (spec.get(part) or {}).items():
            sparse.setdefault(f"{part}.{key}", {})[row] = value


def _frame(
    plain: dict[str, list[Any]], sparse: dict[str, dict[int, Any]], rows: int, machines: Counter[tuple[str, str]]
) -> pd.DataFrame:
    """Columns side by side, in a fixed order; what is the same in every run becomes an attribute."""
    columns: dict[str, Any] = {}
    for name, values in plain.items():
        numeric = name in NUMBERS or name == "limit" or name.startswith("forecast")
        columns[name] = np.array([np.nan if v is None else v for v in values], float) if numeric else values
    columns["trained"] = np.array([v is None or bool(v) for v in columns["trained"]], bool)
    always = []
    for name in sorted(sparse, key=lambda n: ("." in n, n)):
        told = sparse[name]
        if "." not in name:
            if len(told) == rows:
                always.append(name)
            else:
                columns[name] = np.zeros(rows, bool)
                columns[name][list(told)] = True
        elif name.startswith("stage.") or len(told) < rows or len(set(map(repr, told.values()))) > 1:
            columns[name] = _column(told, rows)
    table = pd.DataFrame(columns)
    seen: dict[str, dict[str, int]] = {}
    for (key, value), count in machines.items():
        seen.setdefault(key, {})[value] = count
    table.attrs.update(experiment={}, always=always, machines=seen)
    return table


def _column(told: dict[int, Any], rows: int) -> np.ndarray:
    """A knob's column: float with NaN where every value is a number, otherwise text with None."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in told.values() if v is not None):
        column: np.ndarray = np.full(rows, np.nan)
        values = np.array([np.nan if v is None else v for v in told.values()], float)
    else:
        column, values = np.full(rows, None, object), np.array([str(v) for v in told.values()], object)
    column[np.fromiter(told, int, len(told))] = values
    return column


def _condition(spec: Mapping[str, Any]) -> str:
    """Schedule and data as text. The batch is part of the recipe's shape of training, not of its condition."""
    schedule, data = spec.get("schedule") or {}, spec.get("data") or {}
    bound = [f"{schedule[k]:g} {k}" for k in ("tokens", "seconds") if schedule.get(k) is not None]
    return ", ".join([*bound, *(str(data[k]) for k in ("corpus", "tokenizer", "split") if k in data)])


def _bodies(path: Path) -> Iterator[dict[str, Any]]:
    """Records as JSON, from one file a line or from one file a folder. Damaged files are skipped, never guessed at."""
    if path.is_file():
        with open(path, "rb") as file:
            for line in file:
                if line.strip():
                    yield json.loads(line)
        return
    root = path / "trials" if (path / "trials").is_dir() else path
    for folder in _folders(root):
        with open(f"{folder}/record.json", "rb") as file:
            body = json.loads(file.read())
        body["folder"] = folder
        yield body


def _folders(root: Path) -> Iterator[str]:
    """Folders that hold a record, in name order; one look at the directory is enough for an experiment."""
    for here, below, files in os.walk(root):
        below.sort()
        if "record.json" in files:
            yield here


def _from_parquet(path: Path) -> pd.DataFrame:
    """A table written by `save`, or a parquet file whose columns are a record's fields."""
    table = pd.read_parquet(path)
    if "spec" not in table:
        if "curve" not in table:
            table["curve"] = [[] for _ in range(len(table))]
        return table
    bodies = table.to_dict("records")
    return from_records({k: json.loads(v) if k == "spec" and isinstance(v, str) else v for k, v in b.items()} for b in bodies)
