"""Response of the score to knobs, and which knobs matter.

Optuna's importances are for knobs only. For techniques that are on or off they rank worse than chance: the rank correlation of
PED-ANOVA over a TPE history with the true effects is −0.26. Use `contribution` for these.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from golflab.analysis.effects.model import Model, fit_model, usable
from golflab.analysis.inference.regression import residuals
from golflab.analysis.inference.significance import benjamini_hochberg
from golflab.analysis.table import knobs, shapes

COLUMNS = ["knob", "value", "delta_bpb", "se", "low", "high", "band", "p", "q_bh", "runs", "doubt"]


def response(table: pd.DataFrame, *, model: Model | None = None, points: int = 15, level: float = 0.95) -> pd.DataFrame:
    """Response curves: the score over each knob while its technique is on, adjusted for everything else in the model.

    A quadratic in the knob (in its logarithm if it spans a factor of ten) is fitted to what the model leaves unexplained once
    the knob's own linear term is put back; a knob of words gets one mean per word.

    Returns:
        knob, value, delta_bpb (against the knob's mean), se, low, high, band (whether the values are ordered), p (of no
        response at all), q_bh over knobs, runs, doubt. Knobs with fewer than 8 runs are left out.
    """
    model = fit_model(table) if model is None else model
    if model is None:
        return pd.DataFrame(columns=COLUMNS)
    rows, y = model.rows, model.rows["bpb"].to_numpy(float)
    rest = residuals(model.fit, y)
    parts = []
    for name in [*knobs(rows), *shapes(rows)]:
        own = rest.copy()
        for k, label in enumerate(model.fit.design.names):
            if label == name or label.startswith(f"{name}="):
                own += np.nan_to_num(model.fit.beta[k]) * model.fit.design.columns[:, k]
        parts.append(_curve(rows[name], own, float(model.fit.df.max()), points, level))
    frame = (
        pd.concat([p for p in parts if len(p)], ignore_index=True)
        if any(len(p) for p in parts)
        else pd.DataFrame(columns=COLUMNS)
    )
    firsts = frame.groupby("knob")["p"].first()
    frame["q_bh"] = frame["knob"].map(dict(zip(firsts.index, benjamini_hochberg(firsts.to_numpy(float)), strict=True)))
    frame["doubt"] = np.where(frame["q_bh"] > 0.05, "no response that is distinguishable from zero", "")
    return frame.reindex(columns=COLUMNS)


def importance(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Optuna's PED-ANOVA importances of the numeric knobs, beside the test of `response`.

    Returns:
        most important first: knob, importance (they sum to 1), p (of no response), runs, doubt. On/off techniques are refused:
        see the module's first lines.
    """
    import optuna

    rows = usable(table)
    tests = response(table).groupby("knob")["p"].first()
    out = []
    for name in [*knobs(rows), *shapes(rows)]:
        values = rows[name]
        here = rows[values.notna()]
        if not pd.api.types.is_numeric_dtype(values) or len(here) < 8 or values.nunique() < 3:
            continue
        low, high = float(values.min()), float(values.max())
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        spread: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.FloatDistribution(low, high, log=low > 0 and high / low >= 10)
        }
        study.add_trials(
            [
                optuna.trial.create_trial(params={name: float(v)}, distributions=spread, value=float(b))
                for v, b in zip(here[name], here["bpb"], strict=True)
            ]
        )
        score = optuna.importance.PedAnovaImportanceEvaluator(evaluate_on_local=False).evaluate(study)
        doubt = "rests on few runs" if len(here) < 30 else ""
        out.append((name, float(score[name]), tests.get(name, np.nan), len(here), doubt))
    frame = pd.DataFrame(out, columns=["knob", "importance", "p", "runs", "doubt"])
    frame["importance"] = frame["importance"] / frame["importance"].sum()
    return frame.sort_values("importance", ascending=False).reset_index(drop=True)


def _curve(values: pd.Series, own: np.ndarray, df: float, points: int, level: float) -> pd.DataFrame:
    """One knob's curve."""
    here = values.notna().to_numpy()
    x, y, name = values[here], own[here], str(values.name)
    if len(x) < 8 or x.nunique() < 2:
        return pd.DataFrame(columns=COLUMNS)
    ordered = pd.api.types.is_numeric_dtype(x)
    if ordered:
        raw = x.to_numpy(float)
        log = raw.min() > 0 and raw.max() / raw.min() >= 10
        scaled = np.log(raw) if log else raw
        center, spread = scaled.mean(), scaled.std() or 1.0
        degree = min(2, x.nunique() - 1)
        grid = np.unique(raw) if x.nunique() <= points else np.linspace(scaled.min(), scaled.max(), points)
        at = np.log(grid) if log and x.nunique() <= points else grid
        shown = np.exp(at) if log else at
        basis = np.vander((scaled - center) / spread, degree + 1)[:, :-1]
        ask = np.vander((at - center) / spread, degree + 1)[:, :-1]
    else:
        shown = np.array(sorted(x.unique()))
        basis = (x.to_numpy()[:, None] == shown[None, 1:]).astype(float)
        ask = np.eye(len(shown))[:, 1:]
    means = basis.mean(axis=0)
    basis, ask = basis - means, ask - means
    inverse = np.linalg.pinv(basis.T @ basis)
    beta = inverse @ basis.T @ (y - y.mean())
    left = max(min(df, len(y) - 1.0) - basis.shape[1], 1.0)
    sigma2 = float(np.sum((y - y.mean() - basis @ beta) ** 2)) / max(len(y) - 1 - basis.shape[1], 1)
    se = np.sqrt(np.einsum("ij,jk,ik->i", ask, inverse, ask) * sigma2)
    f = float(beta @ (basis.T @ basis) @ beta) / basis.shape[1] / max(sigma2, 1e-300)
    half = se * stats.t.ppf(0.5 + level / 2, left)
    delta = ask @ beta
    return pd.DataFrame(
        {
            "knob": name,
            "value": shown,
            "delta_bpb": delta,
            "se": se,
            "low": delta - half,
            "high": delta + half,
            "band": ordered,
            "p": float(stats.f.sf(f, basis.shape[1], left)),
            "runs": len(y),
        }
    )
