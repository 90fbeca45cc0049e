"""The model behind every effect: which runs can be compared, its columns, and the fit that contributions and pairs share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import stats

from golflab.analysis.effects.blocks import covariates, machine_blocks, seed_blocks
from golflab.analysis.inference.design_matrix import Design, pseudo_inverse
from golflab.analysis.inference.pair_selection import pair_leak, price_of_selection, select_pairs
from golflab.analysis.inference.regression import Fit, hc2, hc3, least_squares, residuals
from golflab.analysis.joined import whole
from golflab.analysis.table import designed, techniques
from golflab.model.system.slot_names import slot_names

MOST_REPEATED = 500  # runs of a repeated design for which errors are worked out arm by arm
PAIRS_AT_MOST = 3000  # pairs up to which a second-order model is fitted


@dataclass(frozen=True)
class Model:
    """A fitted contribution model; `contribution`, the interactions and the report use it.

    Attributes:
        rows: the runs it was fitted to.
        fit: of ``bpb``.
        names: techniques that vary among the runs.
        columns: technique -> its coefficient's index.
        pairs: pairs in the model, as names.
        adjusted: knobs, shapes, seeds and machines adjusted for.
        notes: sentences for the reader.
        full: the design with every pair, fitted or not.
        moments: its cross products with ``responses``, gathered once.
        responses: names of the columns whose effects can be given.
        references: technique left out of the columns -> those that are compared with it.
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
    references: dict[str, list[str]] = field(default_factory=dict)

    def gram(self, design: Design, response: int = 0) -> np.ndarray:
        """Cross products for a sub-design of ``full`` and one response."""
        plain = design.columns.shape[1]
        place = {pair: plain + k for k, pair in enumerate(self.full.pairs)}
        at = [*range(plain), *(place[pair] for pair in design.pairs), self.full.size + response]
        return self.moments[np.ix_(at, at)]


def usable(table: pd.DataFrame, metric: str = "bpb") -> pd.DataFrame:
    """The runs that can be compared: complete, scored, each recipe once, all under the most frequent condition."""
    rows = whole(table)
    rows = rows.astype({c: float for c in rows.columns if isinstance(rows[c].dtype, pd.Int64Dtype)})  # NumPy's own from here on
    if "state" in rows:
        rows = rows[rows["state"] == "complete"]
    rows = rows[np.isfinite(rows[metric].to_numpy(float))]
    if "recipe" in rows and rows["recipe"].notna().all():
        rows = rows.drop_duplicates("recipe", keep="last")
    if "condition" in rows and len(rows):
        counts = rows["condition"].value_counts()
        rows = rows[rows["condition"] == counts.index[0]]
    return rows.reset_index(drop=True)


def fit_model(table: pd.DataFrame, *, metric: str = "bpb", interactions: bool = True) -> Model | None:
    """Fit the model behind `contribution`; return None if no technique varies among the usable runs.

    Where a search began with a design, only the design's runs count (`golflab.analysis.table.designed`).
    """
    table = designed(table)
    rows = usable(table, metric)
    names = [t for t in techniques(table) if len(rows) and 0 < rows[t].sum() < len(rows)]
    references = slot_references(rows, names)
    names = [t for t in names if t not in references]
    if not names or len(rows) < 3:
        return None
    coded = rows[names].to_numpy(float) - 0.5
    seeds, seed_names = seed_blocks(rows, len(names))
    machines, machine_names, machine_notes = machine_blocks(rows, 1 + len(names) + len(seed_names))
    others, other_names, notes = covariates(rows, 1 + len(names) + len(seed_names) + len(machine_names))
    notes = [*machine_notes, *notes]
    labels = ("1", *names, *seed_names, *machine_names, *other_names)
    plain = Design(np.hstack([np.ones((len(rows), 1)), coded, seeds, machines, others]), labels)
    full = (all_pairs(plain, len(names)) if interactions else None) or plain
    measured = [
        metric,
        *(c for c in ("bytes", "seconds") if c != metric and c in rows and np.isfinite(rows[c].to_numpy(float)).all()),
    ]
    moments = full.gram(rows[measured].to_numpy(float))
    columns = {name: 1 + k for k, name in enumerate(names)}
    empty = least_squares(Design(np.ones((1, 1)), ("1",)), np.zeros(1))
    model = Model(
        rows,
        empty,
        names,
        columns,
        [],
        [*(["seed"] if seed_names else []), *(["machine"] if machine_names else []), *other_names],
        notes,
        full,
        moments,
        measured,
        references,
    )
    design, selected = _with_pairs(model, plain)
    fit = least_squares(design, rows[metric].to_numpy(float), _trainings(rows), model.gram(design))
    if fit.errors == "pooled":
        fit, note = _check_variance(fit, rows[metric].to_numpy(float), len(names))
        notes += note
    if fit.errors == "pooled" and selected:
        fit = _after_selection(fit, full, len(names))
    return replace(model, fit=fit, pairs=[(labels[a], labels[b]) for a, b in design.pairs])


def slot_references(rows: pd.DataFrame, names: list[str]) -> dict[str, list[str]]:
    """Techniques that share a slot which no run leaves to its default: in every run exactly one of them is on.

    Such a set can only be compared among itself. Its most frequent member becomes the reference. The catalogue says which
    techniques share a slot (`golflab.model.system.slot_names`); the runs cannot. Two techniques of different slots that were
    never on together are aliases of each other, and the fit does not tell them apart.

    Returns:
        reference -> the others of its set.
    """
    slots = slot_names()
    sets: dict[str, list[str]] = {}
    for name in names:
        if name in slots:
            sets.setdefault(slots[name], []).append(name)
    out = {}
    for mates in sets.values():
        if len(mates) > 1 and (rows[mates].sum(axis=1) == 1).all():
            first = max(mates, key=lambda name: rows[name].sum())  # of equals the first
            out[first] = [name for name in mates if name != first]
    return out


def response(model: Model, column: str) -> Fit | None:
    """The same model for another column of the same runs (bytes, seconds); None if a run lacks it or none varies."""
    if column not in model.responses or len(model.rows) <= model.fit.design.size:
        return None
    y, design = model.rows[column].to_numpy(float), model.fit.design
    return least_squares(design, y, _trainings(model.rows), model.gram(design, model.responses.index(column)))


def _trainings(rows: pd.DataFrame) -> np.ndarray | None:
    """Key of each run's training if some runs share one."""
    if "training" not in rows:
        return None
    keys = rows["training"].fillna("").astype(str).to_numpy()
    keys = np.where(keys == "", np.array([f"row {i}" for i in range(len(keys))]), keys)
    return keys if len(np.unique(keys)) < len(keys) else None


def _after_selection(fit: Fit, full: Design, count: int) -> Fit:
    """The fit with the errors it has when the selection of its pairs is paid for."""
    factor, df = price_of_selection(full, len(full.columns), list(range(1, count + 1)))
    return replace(fit, covariance=fit.covariance * factor, sigma=fit.sigma * factor**0.5, df=np.full(len(fit.df), df))


def _with_pairs(model: Model, plain: Design) -> tuple[Design, bool]:
    """Add interactions of techniques to the model if that improves its errors; whether the data selected them.

    With many runs all pairs enter. In a design whose main effects are free of pairs (folded Plackett-Burman), the clear pairs
    enter, which makes the residual smaller. In any other design, choosing pairs from the data would bias the main effects. So
    no pair enters there; pairs then add to the residual, which the errors include.
    """
    full, n, count = model.full, len(model.rows), len(model.names)
    if not full.pairs or n < plain.size + 8:
        return plain, False
    if n >= 3 * full.size:
        _, null = pseudo_inverse(model.gram(full)[:-1, :-1])
        entangled = null.shape[1] > pseudo_inverse(model.gram(plain)[:-1, :-1])[1].shape[1]
        return (plain if entangled else full), False
    if pair_leak(full, model.gram(full), count) > 0.25:
        return plain, False
    return full.take(sorted(select_pairs(full, model.gram(full), n, list(range(1, count + 1))))), True


def all_pairs(design: Design, count: int) -> Design | None:
    """The design with every pair of its ``count`` techniques that was seen both on, one on and both off (slot mates never
    are: their product says nothing new), or None if those are none or too many."""
    on = design.columns[:, 1 : count + 1] + 0.5
    both, alone = on.T @ on, on.sum(axis=0)
    neither = len(on) - alone[:, None] - alone[None, :] + both
    seen = (both > 0) & (alone[:, None] > both) & (alone[None, :] > both) & (neither > 0)
    pairs = [(int(i) + 1, int(j) + 1) for i, j in zip(*np.nonzero(np.triu(seen, 1)), strict=True)]
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
    """Pooled errors assume equal variances; if that is in doubt, use errors that do not.

    Where every arm is repeated, a slight doubt is enough: one arm whose runs scatter four times as much would hardly be
    noticed, and pooled errors would cover its effect in 70 % of cases only (`benchmarks/error_rates.py`).
    """
    df, flags = float(fit.df.max()), fit.design.columns[:, 1 : 1 + count]
    rest = residuals(fit, y)
    repeated = np.unique(flags, axis=0, return_counts=True)[1].min() > 1 and len(y) <= MOST_REPEATED
    if df < (8 if repeated else 15) or len(y) < 2 * count or np.ptp(rest) < 1e-12:
        return fit, []
    squares = rest**2 / np.mean(rest**2)
    gram = np.hstack([np.ones((len(y), 1)), flags])
    explained = gram @ np.linalg.lstsq(gram, squares, rcond=None)[0]
    statistic = len(y) * (1 - np.sum((squares - explained) ** 2) / np.sum((squares - squares.mean()) ** 2))  # Koenker's n·R²
    p = float(stats.chi2.sf(statistic, np.linalg.matrix_rank(gram) - 1))
    if p >= (0.2 if repeated else 0.01):
        return fit, []
    robust = hc2(fit, rest) if repeated else hc3(fit, rest)
    used = (
        "pooled errors are still used, so read them with care"
        if robust.errors == "pooled"
        else f"each error comes from the runs that its effect rests on ({robust.errors})"
    )
    return robust, [f"The spread may differ between techniques (Breusch-Pagan p = {p:.2g}); {used}."]
