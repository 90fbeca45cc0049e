"""The contribution of every technique: one table, best first, with the error and the doubt beside every number.

The effect of a technique is the change in bits per byte when it is switched on, averaged over all settings of the other
techniques with equal weight. If the runs only saw it together with all others (leave-one-out), it is the effect there, and the
doubt says so. Techniques that compete for one slot are each compared with the slot's default.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from golflab.analysis.effects import doubts
from golflab.analysis.effects.machines import machine_spread
from golflab.analysis.effects.model import Model, fit_model, response, usable
from golflab.analysis.effects.outliers import outliers_in_words, outlying_runs
from golflab.analysis.effects.rungs import signs
from golflab.analysis.inference.regression import Fit
from golflab.analysis.inference.significance import benjamini_hochberg, detectable, holm
from golflab.analysis.joined import looked_at_scores
from golflab.analysis.table import designed, techniques
from golflab.model.system.wording import number_of

COLUMNS = [
    "technique",
    "delta_bpb",
    "se",
    "low",
    "high",
    "p",
    "p_holm",
    "q_bh",
    "runs",
    "runs_off",
    "mde",
    "bytes",
    "bytes_se",
    "delta_per_kb",
    "delta_per_kb_se",
    "seconds",
    "seconds_se",
    "delta_per_second",
    "vif",
    "aliases",
    "sign_by_rung",
    "doubt",
]


def contribution(
    table: pd.DataFrame,
    *,
    metric: str = "bpb",
    level: float = 0.95,
    interactions: bool = True,
    adaptive: bool | None = None,
    outliers: bool = True,
    model: Model | None = None,
) -> pd.DataFrame:
    """Estimate what every technique was worth.

    Args:
        table: of `golflab.analysis.table.load`, or any frame with boolean technique columns and the metric.
        metric: the response; lower is better.
        level: of the confidence intervals.
        interactions: let pairs enter the model where the design keeps main effects clear of them, or runs abound.
        adaptive: whether the runs were chosen by looking at earlier scores; None reads it from the experiment.
        outliers: whether runs that lie far from what all others say count; they are in ``attrs["outliers"]`` either way.
        model: of `fit_model` for the same table, if it is at hand.

    Returns:
        best first; what cannot be identified comes last with NaN and the reason. Columns: technique; delta_bpb (negative
        is better), se, low, high, p; p_holm, q_bh adjusted over the techniques listed; runs (with it on), runs_off; mde,
        the smallest detectable effect (5 % level, 80 % power); bytes, bytes_se (change of the packed size);
        delta_per_kb, delta_per_kb_se (bits per byte per kB added); seconds, seconds_se (change of the training time);
        delta_per_second; vif; aliases; sign_by_rung; doubt. ``attrs["notes"]`` holds what is true of the whole table, and
        ``attrs["machine_spread"]`` the spread between machines (`golflab.analysis.effects.machines.machine_spread`).
    """
    complete = int((table["state"] == "complete").sum()) if "state" in table else len(table)
    several_kinds = "adaptive" in table and 0 < table["adaptive"].sum() < len(table)
    table = designed(table)  # from here on one table, even if pandas joined several
    model = fit_model(table, metric=metric, interactions=interactions) if model is None else model
    if model is None:
        return _refused(table, metric)
    adaptive = looked_at_scores(table) if adaptive is None else adaptive
    left_out, notes, far = complete - len(model.rows), [], outlying_runs(model, metric)
    if len(far) and (without := fit_model(model.rows.drop(far.index), metric=metric, interactions=interactions)) is not None:
        notes = [outliers_in_words(far, model.fit.sigma, without.fit.sigma, outliers)]
        model = model if outliers else without
    by_rung = signs(table, model.names)
    frame = _effects(model, metric, level).assign(sign_by_rung=[by_rung.get(name, "") for name in model.names])
    frame["doubt"] = [doubts.doubt(model, row) for row in frame.itertuples(index=False)]
    frame = _with_left_out(frame, model, [t for t in techniques(table) if t not in model.names])
    planned = bool(table.attrs.get("experiment", {}).get("planned")) or (several_kinds and not adaptive)
    frame.attrs.update(
        notes=doubts.notes(model, left_out if planned else 0, adaptive) + notes,
        outliers=far.astype(object).where(far.notna(), None).to_dict("records"),
        runs=len(model.rows),
        df=float(np.max(model.fit.df[list(model.columns.values())])),
        sigma=model.fit.sigma,
        errors=model.fit.errors,
        sigma_training=model.fit.sigma_training,
        adjusted=model.adjusted,
        machine_spread=machine_spread(model),
        adaptive=adaptive,
    )
    return frame


def _with_left_out(frame: pd.DataFrame, model: Model, names: list[str]) -> pd.DataFrame:
    """The table, best technique first, with a row and a reason for each technique whose effect the model does not have."""
    extra = [
        {
            "technique": t,
            "runs": int(model.rows[t].sum()),
            "runs_off": int((~model.rows[t]).sum()),
            "doubt": doubts.left_out(model, t),
        }
        for t in names
    ]
    frame = pd.concat([frame, pd.DataFrame(extra)], ignore_index=True) if extra else frame
    return frame.reindex(columns=COLUMNS).sort_values("delta_bpb", na_position="last", kind="stable").reset_index(drop=True)


def needed_runs(table: pd.DataFrame, seeds: int = 3) -> pd.DataFrame:
    """The runs that would remove the bias of a search's effects: the best recipe with each technique switched.

    Returns:
        technique, recipe (hash of the best one), switch (``on`` or ``off``), seeds (fresh ones, with the best recipe re-run on
        the same), se (expected, with the residual of today's model), for the techniques in order of today's doubt.
    """
    model = fit_model(table)
    if model is None:
        return pd.DataFrame(columns=["technique", "recipe", "switch", "seeds", "se"])
    best = model.rows.loc[model.rows["bpb"].idxmin()]
    se = model.fit.sigma * np.sqrt(2 / seeds)
    ratio = np.abs([model.fit.beta[k] / model.fit.se[k] for k in model.columns.values()])
    order = np.argsort(np.nan_to_num(ratio, nan=-1.0))
    rows = [
        {
            "technique": model.names[k],
            "recipe": best.get("recipe", ""),
            "switch": "off" if best[model.names[k]] else "on",
            "seeds": seeds,
            "se": se,
        }
        for k in order
    ]
    return pd.DataFrame(rows)


def _effects(model: Model, metric: str, level: float) -> pd.DataFrame:
    """Numbers for the techniques that vary."""
    fit, at = model.fit, np.array(list(model.columns.values()))
    known = np.isfinite(fit.se[at])
    delta, se = np.where(known, fit.beta[at], np.nan), fit.se[at]
    half, p = fit.half_width(level)[at], np.where(known, fit.p[at], np.nan)
    on = model.rows[model.names].sum().to_numpy(int)
    sizes, size_errors = _effect_on(model, "bytes", at)
    times, time_errors = _effect_on(model, "seconds", at)
    with np.errstate(divide="ignore", invalid="ignore"):
        clear = np.abs(sizes) > 2 * size_errors
        per_kb = np.where(clear, delta / sizes * 1000, np.nan)
        per_kb_se = np.abs(per_kb) * np.hypot(se / delta, size_errors / sizes)
        per_second = np.where(np.abs(times) > 2 * time_errors, delta / times, np.nan)
    aliases = [_aliases(fit, k) for k in at]
    return pd.DataFrame(
        {
            "technique": model.names,
            "delta_bpb": delta,
            "se": se,
            "low": delta - half,
            "high": delta + half,
            "p": p,
            "p_holm": holm(p),
            "q_bh": benjamini_hochberg(p),
            "runs": on,
            "runs_off": len(model.rows) - on,
            "mde": se * np.array([detectable(round(float(d), 1)) for d in fit.df[at]]),
            "bytes": np.where(known, sizes, np.nan),
            "bytes_se": np.where(known, size_errors, np.nan),
            "delta_per_kb": per_kb,
            "delta_per_kb_se": per_kb_se,
            "seconds": np.where(known, times, np.nan),
            "seconds_se": np.where(known, time_errors, np.nan),
            "delta_per_second": per_second,
            "vif": fit.vif[at],
            "aliases": aliases,
        }
    )


def _effect_on(model: Model, column: str, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    fit = response(model, column)
    missing = np.full(len(at), np.nan)
    return (missing, missing) if fit is None else (fit.beta[at], fit.se[at])


def _aliases(fit: Fit, index: int) -> str:
    """Names of the coefficients that cannot be told apart from this one."""
    if index in fit.aliases:
        return ", ".join(fit.design.label(k) for k in fit.aliases[index] if k != 0) or "the mean"
    return ""


def _refused(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The table if nothing can be estimated."""
    rows = usable(table, metric)
    frame = pd.DataFrame({"technique": techniques(table)}).reindex(columns=COLUMNS)
    frame["runs"] = [int(rows[t].sum()) for t in frame["technique"]]
    frame["runs_off"] = len(rows) - frame["runs"]
    frame["doubt"] = [
        f"not identifiable: only {number_of(len(rows), 'complete run')}" if len(rows) < 3 else doubts.constant(rows, t)
        for t in frame["technique"]
    ]
    frame.attrs.update(
        notes=[],
        outliers=[],
        runs=len(rows),
        df=0.0,
        sigma=np.nan,
        errors="none",
        sigma_training=0.0,
        adjusted=[],
        machine_spread={"machines": 0, "sd": np.nan, "low": np.nan, "high": np.nan, "why": "no effect could be estimated"},
        adaptive=False,
    )
    return frame
