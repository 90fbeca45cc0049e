"""Table: one DataFrame of an experiment's records, with a row per run and a boolean column per technique that varies.

Columns every table has (missing values where a run did not get that far):

=================  ====================================================================================
recipe, seed       hash of the recipe; its seed
trial              its number in the search (missing for runs of their own and of earlier versions)
started, ended     when the search handed it out, and when it received its end (UTC)
preset, state      preset it was derived from; complete, pruned, failed or not_fitting
reason             why it did not complete
bpb, bpb_float     bits per byte after and before quantisation
bytes, code_bytes  of the packed artifact, code included; of the code alone
forecast_low/mid/high   bytes predicted before training
limit              the byte limit of the recipe
parameters, tokens, seconds, tokens_per_second, trained, training    as in `golflab.model.record.Record`
machine            on which it ran: its kind, and a mark of its name; empty if the record does not say
condition          schedule and data, as text: only runs of one condition can be compared
techniques         names of all techniques that were on, slots' defaults left out, as text
folder             where the record lies, or ""
experiment         name of the experiment (its folder's or file's name)
adaptive           whether a search chose the run by looking at earlier scores
curve              training curve: list of dictionaries
finishings         further ways in which the training was finished: list of dictionaries (`golflab.analysis.effects.finishings`)
=================  ====================================================================================

Whole numbers are ``int64``, or pandas' ``Int64`` where some runs have none.

Then one boolean column per technique (``smear_gate``), a float or text column per knob that varies
(``smear_gate.theta``) and per field of the shape or schedule that varies (``shape.layers``, ``schedule.tokens``), and
the seconds spent in each stage (``stage.train``).
"""

from __future__ import annotations

import gc
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd

from golflab.analysis.columns import Sparse, condition_of, floats, machine_of, machines_of, times, whole_numbers
from golflab.analysis.joined import chosen_by_search, whole
from golflab.analysis.reading import Reading, experiment, labels, located, merged
from golflab.model.record import damaged_in_words

PLAIN = [
    "recipe",
    "seed",
    "trial",
    "preset",
    "state",
    "reason",
    "bpb",
    "bpb_float",
    "bytes",
    "code_bytes",
    "parameters",
    "tokens",
    "seconds",
    "tokens_per_second",
    "trained",
    "training",
]
NUMBERS = ["bpb", "bpb_float", "seconds", "tokens_per_second"]
WHOLE = ["seed", "trial", "bytes", "code_bytes", "parameters", "tokens"]
TIMES = ["started", "ended"]
FORECAST = ("low", "mid", "high")
OWN = {*PLAIN, "adaptive"}  # columns that are no techniques, even if they are boolean


def load(path: str | Path | Sequence[str | Path]) -> pd.DataFrame:
    """Read an experiment, any folder of records, or a ``.jsonl`` or ``.parquet`` file, into one table; or several into one.

    The table's ``attrs`` are ``experiment`` (content of ``experiment.json``, may be empty; of several experiments the values
    they share, and each under ``experiments``), ``always`` (techniques that every run had), ``machines`` (versions and hardware
    with the number of runs) and ``damaged`` (records that are left out, and why).

    Args:
        path: a path, or the name of an experiment in ``runs``; or a list of them. Runs of experiments that were read together
            have one column for each technique that varies among all of them.

    Raises:
        ValueError: a path does not exist, has no record, or is named twice.
    """
    if isinstance(path, str | Path) and Path(path).suffix == ".parquet":
        return _from_parquet(located(path))
    table = read(path)
    if warning := damaged_in_words(table.attrs["damaged"]):
        warnings.warn(warning, stacklevel=2)
    return table


def read(path: str | Path | Sequence[str | Path]) -> pd.DataFrame:
    """`load` for folders and ``.jsonl`` files, for a caller that reports damaged records itself."""
    paths = [located(one) for one in ([path] if isinstance(path, str | Path) else path)]
    reading = Reading(dict(zip(labels(paths), paths, strict=True)))
    collecting = gc.isenabled()
    gc.disable()  # millions of small objects and no cycles: garbage collection would double the time
    try:
        table = from_records(reading.bodies())
    finally:
        if collecting:
            gc.enable()
    for name, place in reading.paths.items():
        if not reading.runs[name]:
            damage = " ".join(filter(None, [damaged_in_words(reading.damaged)]))
            raise ValueError(
                f"{place} has no record yet. A finished run writes one to {place}/trials/<recipe>/record.json. {damage}".strip()
            )
    experiments = {name: experiment(place) for name, place in reading.paths.items()}
    table["experiment"] = np.repeat(list(reading.runs), list(reading.runs.values())).astype(object)
    table["adaptive"] = _adaptive(table, experiments)
    table.attrs.update(experiment=merged(experiments), damaged=reading.damaged)
    return table


def _adaptive(table: pd.DataFrame, experiments: Mapping[str, Mapping[str, Any]]) -> np.ndarray:
    """(runs,) whether a search chose the run by looking at earlier scores."""
    out = np.zeros(len(table), bool)
    for name, facts in experiments.items():
        here = (table["experiment"] == name).to_numpy()
        planned = facts.get("planned")
        out[here] = ~table.loc[here, "recipe"].isin(planned) if planned else chosen_by_search(facts)
    return out


def save(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table to one parquet file that `load` reads back in a fraction of the time (curves are left out)."""
    path = Path(path)
    flat = table.drop(columns=["curve"], errors="ignore")
    flat.attrs = dict(table.attrs)
    flat.to_parquet(path, compression="zstd")
    return path


def designed(table: pd.DataFrame) -> pd.DataFrame:
    """The runs that were planned before any score was known; the whole table if none or all were.

    A first search runs a design and then proposals that depend on its scores. Only in the design are effects unbiased. The same
    holds if several experiments are read into one table, some of them designs and others searches.
    Techniques that only the proposals varied have no column in the result.
    """
    table = whole(table)
    planned = table.attrs.get("experiment", {}).get("planned")
    if planned and "recipe" in table:
        kept = table[table["recipe"].isin(planned)]
    elif "adaptive" in table and "experiments" in table.attrs.get("experiment", {}):
        kept = table[~table["adaptive"]]
    else:
        return table
    if kept.empty or len(kept) == len(table):
        return table
    kept = kept.reset_index(drop=True)
    return kept.drop(columns=[name for name in techniques(kept) if kept[name].nunique() < 2])


def techniques(table: pd.DataFrame) -> list[str]:
    """The technique columns of a table: all boolean ones that are not fields of a record."""
    return [str(c) for c in table.columns if table[c].dtype == bool and c not in OWN and "." not in str(c)]


def knobs(table: pd.DataFrame) -> list[str]:
    """The knob columns of a table: ``technique.knob``, named after one of its technique columns or constant techniques."""
    owners = set(techniques(table)) | set(table.attrs.get("always", ()))
    return [str(c) for c in table.columns if str(c).partition(".")[0] in owners and "." in str(c)]


def shapes(table: pd.DataFrame) -> list[str]:
    """The columns of the body plan that vary."""
    return [str(c) for c in table.columns if str(c).startswith("shape.")]


def from_records(bodies: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Build the table from records as JSON holds them (an iterable is read once; nothing but columns is kept)."""
    plain: dict[str, list[Any]] = {name: [] for name in (*PLAIN, *TIMES, "techniques", "folder", "curve", "finishings")}
    takes = [(plain[name].append, name) for name in (*PLAIN, *TIMES)]
    forecasts: list[Mapping[str, float]] = []
    conditions: list[str] = []
    limits: list[Any] = []
    sparse = Sparse()
    machines: Counter[tuple[Any, ...]] = Counter()
    ran_on: list[str] = []
    known: dict[tuple[Any, ...], str] = {}
    for row, body in enumerate(bodies):
        get = body.get
        for take, name in takes:
            take(get(name))
        plain["folder"].append(get("folder", ""))
        plain["curve"].append(get("curve") or [])
        plain["finishings"].append(get("finishings") or [])
        forecasts.append(get("bytes_forecast") or {})
        spec = get("spec") or {}
        limits.append(spec.get("limit"))
        schedule, data = spec.get("schedule") or {}, spec.get("data") or {}
        key = (*schedule.values(), *data.values())
        if key not in known:
            known[key] = condition_of(schedule, data)
        conditions.append(known[key])
        plain["techniques"].append(" ".join(k for k, v in sorted((spec.get("techniques") or {}).items()) if v is not None))
        sparse.add(row, spec, get("stages") or {})
        machine = get("machine") or {}
        machines[tuple(machine.items())] += 1
        ran_on.append(machine_of(machine))
    columns: dict[str, Any] = {n: floats(v) if n in NUMBERS else v for n, v in plain.items()}
    columns |= {n: whole_numbers(plain[n]) for n in WHOLE}
    columns |= {n: times(plain[n]) for n in TIMES}
    columns["trained"] = np.array([v is None or bool(v) for v in plain["trained"]], bool)
    columns |= {"machine": ran_on, "condition": conditions, "limit": whole_numbers(limits)}
    columns |= {f"forecast_{edge}": floats([f.get(edge) for f in forecasts]) for edge in FORECAST}
    always = sparse.columns(len(limits), columns)
    table = pd.DataFrame(columns)
    table.attrs.update(experiment={}, always=always, machines=machines_of(machines), damaged=[])
    return table


def _from_parquet(path: Path) -> pd.DataFrame:
    """A table written by `save`, or a parquet file whose columns are a record's fields."""
    table = pd.read_parquet(path)
    if "spec" not in table:
        if "curve" not in table:
            table["curve"] = [[] for _ in range(len(table))]
        return table
    bodies = table.to_dict("records")
    return from_records({k: orjson.loads(v) if k == "spec" and isinstance(v, str) else v for k, v in b.items()} for b in bodies)
