"""What every technique was worth: one table, best first, with the error and the doubt beside every number.

The estimand is the change in bits per byte when a technique is switched on, averaged over the other techniques being on
or off with equal weight. Where the runs only ever saw it beside all others (leave-one-out), it is the effect there, and
the doubt says so. Techniques that share a slot holding one are each compared with the slot's default.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.regression import Design, Fit, hc3, least_squares, pair_leak, residuals, select_pairs
from analysis.rungs import signs
from analysis.significance import benjamini_hochberg, detectable, holm
from analysis.table import knobs, shapes, techniques

COLUMNS = (
    "technique delta_bpb se low high p p_holm q_bh runs runs_off mde bytes bytes_se delta_per_kb delta_per_kb_se seconds seconds_se "
    "delta_per_second vif aliases sign_by_rung doubt"
).split()
ENTER = 0.12  # family-wise level at which a pair enters: calibrated so that 95 % intervals cover 94 to 98 % with 0 and with 10 pairs planted
PAIRS_AT_MOST = 3000  # columns of a second-order model that is still worth a Gram matrix


@dataclass(frozen=True)
class Model:
    """A fitted contribution model: what `contribution`, the interactions and the report share.

    Attributes:
        rows: the runs it was fitted to.
        fit: of ``bpb``.
        names: techniques that vary among the runs.
        columns: technique -> its coefficient's index.
        pairs: pairs in the model, as names.
        adjusted: knobs, shapes and seeds adjusted for.
        notes: what a reader should know, in words.
        full: the design with every pair, fitted or not.
        moments: its cross products with ``responses``, gathered once.
        responses: names of the columns whose effects can be given.
    """

    rows: pd.DataFrame
    fit: Fit
    names: list[str]
    columns: dict[str, int]
    pairs: list[tuple[str, str]]
    adjusted: list[str]
    notes: list[str]
    full: Design
    moments: np.ndarray
    responses: list[str]

    def gram(self, design: Design, response: int = 0) -> np.ndarray:
        """Cross products for a sub-design of ``full`` and one response."""
        plain = design.columns.shape[1]
        place = {pair: plain + k for k, pair in enumerate(self.full.pairs)}
        at = [*range(plain), *(place[pair] for pair in design.pairs), self.full.size + response]
        return self.moments[np.ix_(at, at)]


def usable(table: pd.DataFrame, metric: str = "bpb") -> pd.DataFrame:
    """The runs that can be compared: complete, scored, each recipe once, all under the most frequent condition."""
    rows = table
    if "state" in rows:
        rows = rows[rows["state"] == "complete"]
    rows = rows[np.isfinite(rows[metric].to_numpy(float))]
    if "recipe" in rows and rows["recipe"].notna().all():
        rows = rows.drop_duplicates("recipe", keep="last")
    if "condition" in rows and rows["condition"].nunique() > 1:
        counts = rows["condition"].value_counts()
        rows = rows[rows["condition"] == counts.index[0]]
    return rows.reset_index(drop=True)


def contribution(
    table: pd.DataFrame,
    *,
    metric: str = "bpb",
    level: float = 0.95,
    interactions: bool = True,
    adaptive: bool | None = None,
    model: Model | None = None,
) -> pd.DataFrame:
    """Estimate what every technique was worth.

    Args:
        table: of `analysis.table.load`, or any frame with boolean technique columns and the metric.
        metric: the response; lower is better.
        level: of the confidence intervals.
        interactions: let pairs enter the model where the design keeps main effects clear of them, or runs abound.
        adaptive: whether the runs were chosen looking at earlier results; None reads it from the experiment.
        model: of `fit_model` for the same table, if it is at hand.

    Returns:
        best first; what cannot be identified comes last with NaN and the reason. Columns: technique; delta_bpb (negative
        is better), se, low, high, p; p_holm, q_bh adjusted over the techniques listed; runs (with it on), runs_off; mde,
        the smallest effect these runs would have shown at 5 % with power 0.8; bytes, bytes_se (change of the packed size);
        delta_per_kb, delta_per_kb_se (bits per byte per kB added); seconds, seconds_se (change of the training time);
        delta_per_second; vif; aliases; sign_by_rung; doubt. ``attrs["notes"]`` holds what is true of the whole table.
    """
    model = fit_model(table, metric=metric, interactions=interactions) if model is None else model
    if model is None:
        return _refused(table, metric)
    adaptive = _chosen_by_search(table.attrs.get("experiment", {})) if adaptive is None else adaptive
    frame = _effects(model, metric, level)
    by_rung = signs(table, model.names)
    frame["sign_by_rung"] = [by_rung.get(name, "") for name in frame["technique"]]
    frame["doubt"] = [_doubt(model, row) for row in frame.itertuples(index=False)]
    lost = [t for t in techniques(table) if t not in model.names]
    extra = [{"technique": t, "runs": int(model.rows[t].sum()), "runs_off": int((~model.rows[t]).sum()), "doubt": _constant(model.rows, t)} for t in lost]
    frame = pd.concat([frame, pd.DataFrame(extra)], ignore_index=True) if extra else frame
    frame = frame.reindex(columns=COLUMNS).sort_values("delta_bpb", na_position="last", kind="stable").reset_index(drop=True)
    notes = [*model.notes]
    if adaptive:
        notes.append(
            "These runs were chosen by a search that looked at earlier results. Techniques it disliked early were tried less and in "
            "worse company, so effects are biased, mostly toward the search's first impressions; `needed_runs` names the runs that would remove it."
        )
    frame.attrs.update(notes=notes, runs=len(model.rows), df=float(np.max(model.fit.df)), sigma=model.fit.sigma, errors=model.fit.errors,
                       sigma_training=model.fit.sigma_training, pairs=model.pairs, adjusted=model.adjusted, adaptive=adaptive)  # fmt: skip
    return frame


def fit_model(table: pd.DataFrame, *, metric: str = "bpb", interactions: bool = True) -> Model | None:
    """Fit the model behind `contribution`, or return None where no technique varies among the usable runs."""
    rows = usable(table, metric)
    names = [t for t in techniques(table) if len(rows) and 0 < rows[t].sum() < len(rows)]
    if not names or len(rows) < 3:
        return None
    coded = rows[names].to_numpy(float) - 0.5
    blocks, block_names = _seed_blocks(rows, len(names))
    covariates, covariate_names, notes = _covariates(rows, 1 + len(names) + blocks.shape[1])
    labels = ("1", *names, *block_names, *covariate_names)
    plain = Design(np.hstack([np.ones((len(rows), 1)), coded, blocks, covariates]), labels)
    full = (all_pairs(plain, len(names)) if interactions else None) or plain
    measured = [metric, *(c for c in ("bytes", "seconds") if c != metric and c in rows and np.isfinite(rows[c].to_numpy(float)).all())]
    moments = full.gram(rows[measured].to_numpy(float))
    columns = {name: 1 + k for k, name in enumerate(names)}
    empty = least_squares(Design(np.ones((1, 1)), ("1",)), np.zeros(1))
    model = Model(rows, empty, names, columns, [], [*block_names[:1], *covariate_names], notes, full, moments, measured)
    design = _with_pairs(model, plain)
    fit = least_squares(design, rows[metric].to_numpy(float), _trainings(rows), model.gram(design))
    if fit.errors == "pooled":
        fit, note = _check_variance(fit, rows[metric].to_numpy(float), len(names))
        notes += note
    return replace(model, fit=fit, pairs=[(labels[a], labels[b]) for a, b in design.pairs])


def response(model: Model, column: str) -> Fit | None:
    """The same model for another column of the same runs (bytes, seconds); None if a run lacks it or none varies."""
    if column not in model.responses or len(model.rows) <= model.fit.design.size:
        return None
    y, design = model.rows[column].to_numpy(float), model.fit.design
    return least_squares(design, y, _trainings(model.rows), model.gram(design, model.responses.index(column)))


def needed_runs(table: pd.DataFrame, seeds: int = 3) -> pd.DataFrame:
    """The runs that would turn an adaptive history's effects into unbiased ones: the best recipe, each technique flipped.

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
    told = [{"technique": model.names[k], "recipe": best.get("recipe", ""), "switch": "off" if best[model.names[k]] else "on",
             "seeds": seeds, "se": se} for k in order]  # fmt: skip
    return pd.DataFrame(told)


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
    return pd.DataFrame({
        "technique": model.names, "delta_bpb": delta, "se": se, "low": delta - half, "high": delta + half, "p": p,
        "p_holm": holm(p), "q_bh": benjamini_hochberg(p), "runs": on, "runs_off": len(model.rows) - on,
        "mde": se * np.array([detectable(round(float(d), 1)) for d in fit.df[at]]),
        "bytes": np.where(known, sizes, np.nan), "bytes_se": np.where(known, size_errors, np.nan), "delta_per_kb": per_kb,
        "delta_per_kb_se": per_kb_se, "seconds": np.where(known, times, np.nan), "seconds_se": np.where(known, time_errors, np.nan),
        "delta_per_second": per_second, "vif": fit.vif[at], "aliases": aliases,
    })  # fmt: skip


def _effect_on(model: Model, column: str, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    fit = response(model, column)
    missing = np.full(len(at), np.nan)
    return (missing, missing) if fit is None else (fit.beta[at], fit.se[at])


def _aliases(fit: Fit, index: int) -> str:
    """Names of what cannot be told apart from a coefficient, and of what nearly cannot."""
    if index in fit.aliases:
        return ", ".join(fit.design.label(k) for k in fit.aliases[index] if k != 0) or "the mean"
    return ""


def _trainings(rows: pd.DataFrame) -> np.ndarray | None:
    """Key of each run's training if some runs share one."""
    if "training" not in rows:
        return None
    keys = rows["training"].fillna("").astype(str).to_numpy()
    keys = np.where(keys == "", np.array([f"row {i}" for i in range(len(keys))]), keys)
    return keys if len(np.unique(keys)) < len(keys) else None


def _seed_blocks(rows: pd.DataFrame, size: int) -> tuple[np.ndarray, list[str]]:
    """A column per seed but one, where the runs are few seeds used again and again: common random numbers cancel there."""
    empty = np.zeros((len(rows), 0))
    if "seed" not in rows or rows["seed"].isna().any():
        return empty, []
    seeds, codes, counts = np.unique(rows["seed"].to_numpy(), return_inverse=True, return_counts=True)
    if len(seeds) < 2 or counts.min() < 2 or len(rows) / len(seeds) < 4 or len(rows) - len(seeds) - size < 1:
        return empty, []
    dummies = (codes[:, None] == np.arange(1, len(seeds))[None, :]).astype(float)
    return dummies - dummies.mean(axis=0), [f"seed {s:g}" for s in seeds[1:]]


def _covariates(rows: pd.DataFrame, size: int) -> tuple[np.ndarray, list[str], list[str]]:
    """Columns for the shape and for knobs (centred over the runs that have them), as many as half the runs can carry."""
    iso = bool(_option(rows, "iso_size"))
    wanted = [*([] if iso else shapes(rows)), *knobs(rows)]
    columns, names = [], []
    for name in wanted:
        for label, column in _numeric(rows, name):
            if np.ptp(column) > 0:
                columns.append(column)
                names.append(label)
    room = max(len(rows) // 2 - size, 0)
    notes = []
    if len(names) > room:
        notes.append(f"Knobs and shape not adjusted for, because {len(rows)} runs are too few: {', '.join(names[room:])}.")
    columns, names = columns[:room], names[:room]
    return (np.column_stack(columns) if columns else np.zeros((len(rows), 0))), names, notes


def _numeric(rows: pd.DataFrame, name: str) -> list[tuple[str, np.ndarray]]:
    """A knob as columns: itself standardised, or one per further level where its values are words; 0 where it is absent."""
    values = rows[name]
    if pd.api.types.is_numeric_dtype(values):
        x = values.to_numpy(float)
        known = np.isfinite(x)
        spread = x[known].std() if known.any() else 0.0
        return [(name, np.where(known, (x - x[known].mean()) / spread, 0.0))] if spread > 0 else []
    levels = sorted(values.dropna().unique())[1:]
    return [(f"{name}={v}", np.where(values.notna(), (values == v) - (values == v)[values.notna()].mean(), 0.0)) for v in levels]


def _with_pairs(model: Model, plain: Design) -> Design:
    """Let interactions of techniques into the model where that makes its errors truer.

    With runs in plenty all pairs enter. In a design whose main effects are clear of pairs (folded Plackett-Burman), the pairs
    that show enter and leave the residual cleaner. Anywhere else choosing pairs would bend the main effects after the fact, so
    pairs stay out, and their leak into an effect is as random as the residual that pays for it.
    """
    full, n, count = model.full, len(model.rows), len(model.names)
    if not full.pairs or n < plain.size + 8:
        return plain
    if n >= 3 * full.size:
        return full
    if pair_leak(full, model.gram(full), count) > 0.25:
        return plain
    return full.take(sorted(select_pairs(full, model.gram(full), n, list(range(1, count + 1)), alpha=ENTER)))


def all_pairs(design: Design, count: int) -> Design | None:
    """The design with every pair of its ``count`` techniques, or None if those are none or too many."""
    pairs = [(i, j) for i in range(1, count + 1) for j in range(i + 1, count + 1)]
    return Design(design.columns, design.names, tuple(pairs)) if 0 < len(pairs) <= PAIRS_AT_MOST else None


def second_order(model: Model) -> Model:
    """The model with the pairs that show (all of them where runs abound): for interactions, Shapley values and removals."""
    if model.pairs:
        return model
    full, n = model.full, len(model.rows)
    if not full.pairs or n < model.fit.design.size + 8:
        return model
    design = full.take(sorted(select_pairs(full, model.gram(full), n, list(range(1, len(model.names) + 1)))))
    y = model.rows[model.responses[0]].to_numpy(float)
    fit = least_squares(design, y, _trainings(model.rows), model.gram(design))
    return replace(model, fit=fit, pairs=[(design.names[a], design.names[b]) for a, b in design.pairs])


def _check_variance(fit: Fit, y: np.ndarray, count: int) -> tuple[Fit, list[str]]:
    """Pooled errors assume equal variances; where the runs contradict that, use errors that do not."""
    df = float(fit.df.max())
    rest = residuals(fit, y)
    if df < 15 or len(y) < 2 * count or np.ptp(rest) < 1e-12:
        return fit, []
    flags = fit.design.columns[:, 1 : 1 + count]
    squares = rest**2 / np.mean(rest**2)
    gram = np.hstack([np.ones((len(y), 1)), flags])
    explained = gram @ np.linalg.lstsq(gram, squares, rcond=None)[0]
    statistic = len(y) * (1 - np.sum((squares - explained) ** 2) / np.sum((squares - squares.mean()) ** 2))  # Koenker's n·R²
    p = float(stats.chi2.sf(statistic, np.linalg.matrix_rank(gram) - 1))
    if p >= 0.01:
        return fit, []
    robust = hc3(fit, rest)
    used = "errors that allow for it (HC3) are used" if robust.errors == "HC3" else "pooled errors are used all the same, so read them with care"
    return robust, [f"The spread differs between techniques (Breusch-Pagan p = {p:.2g}); {used}."]


def _doubt(model: Model, row: Any) -> str:
    """Everything that should make one hesitate before believing a row, in words."""
    name, delta = row.technique, row.delta_bpb
    fit, at = model.fit, model.columns[row.technique]
    told = []
    if at in fit.aliases:
        return f"not identifiable: these runs cannot tell it apart from {row.aliases}"
    if not np.isfinite(row.se):
        return f"no error can be given: {len(model.rows)} runs leave no degree of freedom after {fit.design.size} coefficients"
    if row.low <= 0 <= row.high:
        told.append("not distinguishable from zero")
    elif row.q_bh > 0.05:
        told.append("not distinguishable from zero once the number of techniques is counted")
    if fit.df[at] < 10:
        told.append(f"only {fit.df[at]:.0f} degrees of freedom")
    if min(row.runs, row.runs_off) < 3:
        told.append(f"rests on {min(row.runs, row.runs_off)} run(s) of one kind")
    if row.vif > 5:
        told.append(f"entangled with other techniques (VIF {row.vif:.1f})")
    share = model.rows[name].mean()
    others = [t for t in model.names if t != name]
    if others and share != 0.5:
        told += _company(model.rows, name, others)
    signs = str(row.sign_by_rung)
    if "+" in signs and "−" in signs and np.isfinite(delta):
        told.append("changes sign between rungs")
    return "; ".join(told)


def _company(rows: pd.DataFrame, name: str, others: list[str]) -> list[str]:
    """Say when a technique was only ever judged beside all the others, or beside none."""
    odd = rows[~rows[name]] if rows[name].mean() > 0.5 else rows[rows[name]]
    beside = odd[others].mean(axis=1)
    if (beside >= 1).all():
        return ["measured beside all other techniques only"]
    if (beside <= 0).all():
        return ["measured without any other technique only"]
    return []


def _constant(rows: pd.DataFrame, name: str) -> str:
    state = "on" if len(rows) and rows[name].all() else "off"
    return f"not identifiable: {state} in every complete run"


def _option(rows: pd.DataFrame, key: str) -> Any:
    experiment = rows.attrs.get("experiment", {})
    return experiment.get(key, experiment.get("options", {}).get(key))


def _chosen_by_search(experiment: dict[str, Any]) -> bool:
    """Whether an experiment proposed its recipes looking at earlier ones: it had a space, and no design."""
    told = experiment | experiment.get("options", {})
    return bool(told.get("space")) and not told.get("design")


def _refused(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The table when nothing at all can be estimated."""
    rows = usable(table, metric)
    frame = pd.DataFrame({"technique": techniques(table)}).reindex(columns=COLUMNS)
    frame["runs"] = [int(rows[t].sum()) for t in frame["technique"]]
    frame["runs_off"] = len(rows) - frame["runs"]
    frame["doubt"] = [
        f"not identifiable: only {len(rows)} complete run(s)" if len(rows) < 3 else _constant(rows, t) for t in frame["technique"]
    ]
    frame.attrs.update(notes=[], runs=len(rows), df=0.0, sigma=np.nan, errors="none", sigma_training=0.0, pairs=[], adjusted=[], adaptive=False)
    return frame
