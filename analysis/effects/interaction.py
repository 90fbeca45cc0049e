"""Effects of techniques together: pairwise effects, Shapley values in closed form, and losses in every order of removal."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from scipy import stats

from golflab.analysis.effects.model import Model, fit_model, second_order
from golflab.analysis.inference.design_matrix import pseudo_inverse
from golflab.analysis.inference.significance import benjamini_hochberg, detectable, holm

COLUMNS = ["a", "b", "delta_bpb", "se", "low", "high", "p", "p_holm", "q_bh", "runs", "mde", "in_model", "aliases", "doubt"]


def interaction(table: pd.DataFrame | Model, *, heredity: bool = True, level: float = 0.95) -> pd.DataFrame:
    """The effect of two techniques together minus the sum of their effects (negative: they help each other).

    Pairs of the fitted model are estimated jointly; every other pair is estimated as the one further column of that model.

    Args:
        table: runs, or the model fitted to them.
        heredity: only pairs with at least one technique whose own effect shows at 5 %, and those of the model.
        level: of the intervals.

    Returns:
        smallest p first: a, b, delta_bpb, se, low, high, p, p_holm and q_bh (over all pairs tried, also those not
        listed), runs (with both on), mde, in_model, aliases (pairs it is correlated with by more than 0.7 here), doubt.
    """
    model = table if isinstance(table, Model) else fit_model(table)
    if model is None or len(model.names) < 2:
        return pd.DataFrame(columns=COLUMNS)
    model = second_order(model)
    frame = pd.concat([_estimates(model, level), _never_seen(model)], ignore_index=True)
    frame["p_holm"], frame["q_bh"] = holm(frame["p"].to_numpy()), benjamini_hochberg(frame["p"].to_numpy())
    frame["doubt"] = [_doubt(row) for row in frame.itertuples(index=False)]
    if heredity:
        active = {n for n in model.names if model.fit.p[model.columns[n]] < 0.05}
        frame = frame[frame["in_model"] | frame["a"].isin(active) | frame["b"].isin(active)]
    return frame.reindex(columns=COLUMNS).sort_values(["p", "a", "b"], na_position="last").reset_index(drop=True)


def matrix(pairs: pd.DataFrame, shrink: bool = True) -> pd.DataFrame:
    """The pairwise table as a symmetric square, for a heat map; what is unknown is NaN.

    Args:
        pairs: of `interaction`.
        shrink: pull every estimate toward zero by its own error (positive-part James and Stein), so that noise does not
            look like a pattern.
    """
    names = sorted(set(pairs["a"]) | set(pairs["b"]))
    square = pd.DataFrame(np.nan, index=names, columns=names)
    delta = pairs["delta_bpb"].to_numpy(float)
    if shrink:
        with np.errstate(divide="ignore", invalid="ignore"):
            delta = delta * np.clip(1 - (pairs["se"].to_numpy(float) / delta) ** 2, 0.0, None)
    for a, b, value in zip(pairs["a"], pairs["b"], delta, strict=True):
        square.loc[a, b] = square.loc[b, a] = value
    return square


def shapley(table: pd.DataFrame | Model, preset: list[str] | None = None, level: float = 0.95) -> pd.DataFrame:
    """Shapley value of every technique of a preset, exactly, from the second-order model.

    In 0/1 coding the value is ``b_i + ½ Σ_j b_ij`` over the preset's other techniques (those outside it stay off), so no order
    needs to be sampled and the error is exact.

    Args:
        table: runs, or the model fitted to them.
        preset: the techniques that share the credit; None takes all that vary.
        level: of the intervals.

    Returns:
        best first: technique, shapley, se, low, high, share (of the preset's total), doubt. They sum to the preset's
        total effect.
    """
    model = _model(table)
    inside = _inside(model, preset)
    rows = []
    for name in inside:
        weights = effect_weights(model, name, {other: 0.5 if other in inside else 0.0 for other in model.names})
        rows.append((name, *model.fit.contrast(weights)))
    frame = pd.DataFrame(rows, columns=["technique", "shapley", "se"])
    half = frame["se"] * stats.t.ppf(0.5 + level / 2, max(float(model.fit.df.min()), 1.0))
    frame["low"], frame["high"] = frame["shapley"] - half, frame["shapley"] + half
    frame["share"] = frame["shapley"] / frame["shapley"].sum()
    unknown = frame["shapley"].isna()
    frame["doubt"] = np.where(
        unknown, "not identifiable", np.where((frame["low"] <= 0) & (frame["high"] >= 0), "not distinguishable from zero", "")
    )
    return frame.sort_values("shapley", na_position="last").reset_index(drop=True)


def removal(table: pd.DataFrame | Model, preset: list[str] | None = None, level: float = 0.95) -> pd.DataFrame:
    """The loss of a preset without each technique, over all orders of removal (positive: bits per byte lost).

    Returns:
        in the best order of removal: technique; loses_first and loses_last (removed before or after all
        others) with first_se, last_se; average (over all orders), least and most over the orders; then ``path`` and
        path_se, the total lost once everything up to this row is gone.
    """
    model = _model(table)
    inside = _inside(model, preset)
    order = _give_up_order(model, inside)
    rows, gone = [], np.zeros(model.fit.design.size)
    for step, name in enumerate(order):
        left = order[step:]
        first, last, average = (
            effect_weights(model, name, {o: share if o in inside else 0.0 for o in model.names}) for share in (1.0, 0.0, 0.5)
        )
        gone = gone - effect_weights(model, name, {o: 1.0 if o in left else 0.0 for o in model.names})
        swing = np.array([_pair(model, name, o) for o in inside if o != name])
        base = -model.fit.contrast(last)[0]
        firsts, lasts, path = model.fit.contrast(-first), model.fit.contrast(-last), model.fit.contrast(gone)
        rows.append(
            (
                name,
                *firsts,
                *lasts,
                -model.fit.contrast(average)[0],
                base - swing[swing > 0].sum(),
                base - swing[swing < 0].sum(),
                *path,
            )
        )
    names = ["technique", "loses_first", "first_se", "loses_last", "last_se", "average", "least", "most", "path", "path_se"]
    frame = pd.DataFrame(rows, columns=names)
    half = frame["path_se"] * stats.t.ppf(0.5 + level / 2, max(float(model.fit.df.min()), 1.0))
    frame["path_low"], frame["path_high"] = frame["path"] - half, frame["path"] + half
    return frame


def effect_weights(model: Model, name: str, others: dict[str, float]) -> np.ndarray:
    """Weights on the coefficients: the effect of ``name`` while each other technique is on for this share of the time."""
    weights = np.zeros(model.fit.design.size)
    weights[model.columns[name]] = 1.0
    plain = model.fit.design.columns.shape[1]
    for k, (a, b) in enumerate(model.pairs):
        if name in (a, b):
            other = b if name == a else a
            weights[plain + k] = others[other] - 0.5
    return weights


def _model(table: pd.DataFrame | Model) -> Model:
    model = table if isinstance(table, Model) else fit_model(table)
    if model is None:
        raise ValueError(
            "interaction: no technique varies among the complete runs, so there is nothing to compare. Run an ablation first."
        )
    return second_order(model)


def _inside(model: Model, preset: list[str] | None) -> list[str]:
    if preset is None:
        return list(model.names)
    if unknown := [name for name in preset if name not in model.names]:
        raise ValueError(f"interaction: {unknown[0]!r} does not vary in these runs. Those that do: {', '.join(model.names)}.")
    return list(preset)


def _pair(model: Model, a: str, b: str) -> float:
    """The pair's coefficient, 0 where the model has none."""
    plain = model.fit.design.columns.shape[1]
    for k, pair in enumerate(model.pairs):
        if set(pair) == {a, b}:
            return float(model.fit.beta[plain + k])
    return 0.0


def _give_up_order(model: Model, inside: list[str]) -> list[str]:
    """Greedy: at each step the technique whose removal costs least now."""
    left, order = list(inside), []
    while left:
        present = {o: 1.0 if o in left else 0.0 for o in model.names}
        costs = [-model.fit.contrast(effect_weights(model, n, present))[0] for n in left]
        order.append(left.pop(int(np.argmin(np.nan_to_num(costs, nan=np.inf)))))
    return order


def _never_seen(model: Model) -> pd.DataFrame:
    """The pairs these runs never show both on, one on and both off, with no number."""
    inside = {(model.names[i - 1], model.names[j - 1]) for i, j in model.full.pairs}
    names = [p for p in itertools.combinations(model.names, 2) if p not in inside]
    both = [int((model.rows[a] & model.rows[b]).sum()) for a, b in names]
    frame = pd.DataFrame(names, columns=["a", "b"]).assign(runs=both, in_model=False, aliases="")
    return frame.reindex(columns=COLUMNS).astype(dict.fromkeys(["delta_bpb", "se", "low", "high", "p", "mde"], float))


def _estimates(model: Model, level: float) -> pd.DataFrame:
    """Estimates for the pairs that can be told apart, from one Gram matrix of the second-order model."""
    fit, n = model.fit, len(model.rows)
    plain = fit.design.columns.shape[1]
    every = model.full.pairs
    total = model.gram(model.full)
    inside = [*range(plain), *(plain + every.index(p) for p in fit.design.pairs)]
    inverse, null = pseudo_inverse(total[np.ix_(inside, inside)])
    beta = inverse @ total[inside, -1]
    rss, df = float(total[-1, -1] - beta @ total[inside, -1]), n - (len(inside) - null.shape[1])
    at = np.arange(plain, plain + len(every))
    cross = total[np.ix_(at, inside)]
    left_over = total[np.ix_(at, at)] - cross @ inverse @ cross.T
    room, pull = np.diag(left_over), total[at, -1] - cross @ beta
    rows = []
    correlation = left_over / np.sqrt(np.outer(np.maximum(room, 1e-12), np.maximum(room, 1e-12)))
    np.fill_diagonal(correlation, 0.0)
    for k, (i, j) in enumerate(every):
        name = (model.names[i - 1], model.names[j - 1])
        runs = int((model.rows[name[0]] & model.rows[name[1]]).sum())
        if (i, j) in fit.design.pairs:
            c = plain + fit.design.pairs.index((i, j))
            value, se, dof, alias = fit.beta[c], fit.se[c], float(fit.df[c]), ""
        elif room[k] > 1e-6 * n / 16 and df > 1:
            value = pull[k] / room[k]
            se, dof = np.sqrt(max(rss - pull[k] ** 2 / room[k], 0.0) / (df - 1) / room[k]), df - 1.0
            near = np.flatnonzero((np.abs(correlation[k]) > 0.7) & (room > 1e-6 * n / 16))
            alias = ", ".join(f"{model.names[every[m][0] - 1]} × {model.names[every[m][1] - 1]}" for m in near[:2])
            alias += f" and {len(near) - 2} more" if len(near) > 2 else ""
        else:
            value, se, dof, alias = np.nan, np.nan, np.nan, ""
        half = se * stats.t.ppf(0.5 + level / 2, dof) if dof > 0 else np.nan
        p = 2 * stats.t.sf(abs(value / se), dof) if se > 0 else np.nan
        mde = se * detectable(round(dof, 1)) if dof >= 1 else np.nan
        rows.append((*name, value, se, value - half, value + half, p, runs, mde, (i, j) in fit.design.pairs, alias))
    return pd.DataFrame(rows, columns=["a", "b", "delta_bpb", "se", "low", "high", "p", "runs", "mde", "in_model", "aliases"])


def _doubt(row: object) -> str:
    if not np.isfinite(row.se):  # type: ignore[attr-defined]
        return "not identifiable: in these runs the two are never separate from everything else"
    doubts = []
    if row.q_bh > 0.05:  # type: ignore[attr-defined]
        doubts.append("not distinguishable from zero")
    if row.aliases:  # type: ignore[attr-defined]
        doubts.append(f"may also be the effect of {row.aliases}")  # type: ignore[attr-defined]
    return "; ".join(doubts)
