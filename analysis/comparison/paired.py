"""Two recipes compared document by document and seed by seed.

Runs that share a seed share initial weights and data order, and all runs are scored on the same documents. How much this
reduces the error is measured here, never assumed: the table has the correlation of the arms. Without correlation, an unpaired
comparison is as good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from golflab.analysis.comparison.ranking import arms
from golflab.model.record import load_documents

COLUMNS = [
    "comparison",
    "delta_bpb",
    "se",
    "low",
    "high",
    "p",
    "correlation",
    "seeds",
    "documents",
    "se_seeds",
    "se_documents",
    "se_unpaired",
    "doubt",
]


def documents(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Bits (runs, documents) and bytes (documents,) of runs scored on the same text.

    Raises:
        ValueError: a run has no documents, or the runs were scored on different ones.
    """
    bits, sizes = [], []
    for folder in rows["folder"]:
        if not folder or not (Path(folder) / "documents.npz").is_file():
            raise ValueError(
                f"paired: {folder or 'a run'} has no documents.npz. Load the table from the experiment's folder, not "
                "from an export."
            )
        run_bits, run_bytes = load_documents(Path(folder))
        bits.append(run_bits)
        sizes.append(run_bytes)
    if any(len(s) != len(sizes[0]) or (s != sizes[0]).any() for s in sizes):
        raise ValueError("paired: these runs were scored on different documents, so they cannot be paired by document.")
    return np.array(bits, float), np.asarray(sizes[0], float)


def paired(
    new: np.ndarray,
    old: np.ndarray,
    document_bytes: np.ndarray,
    *,
    level: float = 0.95,
    draws: int = 2000,
    shared_seeds: bool = True,
) -> pd.DataFrame:
    """Compare two arms over seeds and documents.

    The difference is averaged over documents by their bytes, as the score is. Its error has two sources that add: the seeds
    (differences by seed) and the documents (cluster bootstrap over documents of the mean difference, which matters if the claim
    is about other text than this). The interval is about fresh seeds *and* fresh documents of the same kind. Each source is
    widened by Student's t with its own degrees of freedom before the two are added in squares: three seeds know their spread
    badly, however many documents there are.

    Args:
        new: (seeds, documents) bits.
        old: (seeds, documents) bits, with the same seeds in the same order if ``shared_seeds``.
        document_bytes: (documents,).
        level: of the interval.
        draws: of the bootstrap.
        shared_seeds: whether row k of both arms has one seed.

    Returns:
        one row: comparison, delta_bpb (new − old), se, low, high, p, correlation (between the arms over seeds, NaN below
        three), seeds, documents, se_seeds, se_documents, se_unpaired (what the error would be without pairing), doubt.
    """
    new, old, size = (
        np.atleast_2d(np.asarray(new, float)),
        np.atleast_2d(np.asarray(old, float)),
        np.asarray(document_bytes, float),
    )
    if new.shape[1] != len(size) or old.shape[1] != len(size) or (shared_seeds and len(new) != len(old)):
        raise ValueError(
            f"paired: got bits {new.shape} and {old.shape} for {len(size)} documents; rows are seeds, columns documents."
        )
    a, b = new.sum(axis=1) / size.sum(), old.sum(axis=1) / size.sum()
    se_documents = _bootstrap(new.mean(axis=0) - old.mean(axis=0), size, draws)
    seeds = _over_seeds(a, b, shared_seeds)
    alone = seeds.df < 1 or not np.isfinite(seeds.se)
    se_seeds, df = (0.0, np.inf) if alone else (seeds.se, seeds.df)
    se, delta = float(np.hypot(se_seeds, se_documents)), float(a.mean() - b.mean())
    sources = ((se_seeds, df), (se_documents, max(len(size) - 1, 1)))
    half = _half(sources, 1 - level)
    doubts = ["one seed: the error covers documents only, a fresh seed may differ by more"] if alone else []
    if df < 3:
        doubts.append(f"{len(a) if shared_seeds else f'{len(a)} and {len(b)}'} seeds: the error itself is badly known")
    if np.isfinite(seeds.correlation) and seeds.correlation < 0.2 and not doubts:
        doubts.append("the arms hardly correlate over seeds: pairing bought nothing")
    if abs(delta) <= half:
        doubts.append("not distinguishable from zero")
    p = _p_value(delta, sources) if se > 0 else np.nan
    row = ["new − old", delta, se, delta - half, delta + half, p, seeds.correlation, len(a), len(size)]
    return pd.DataFrame([[*row, se_seeds, se_documents, seeds.se_unpaired, "; ".join(doubts)]], columns=COLUMNS)


@dataclass(frozen=True)
class _Seeds:
    """Error of a difference that comes from the seeds: with pairing, without, degrees of freedom, correlation of the arms."""

    se: float
    se_unpaired: float
    df: float
    correlation: float


def _over_seeds(a: np.ndarray, b: np.ndarray, shared: bool) -> _Seeds:
    """The error of ``mean(a) − mean(b)`` over seeds; correlation NaN below three seeds."""
    unpaired = float(np.hypot(_sd(a) / np.sqrt(len(a)), _sd(b) / np.sqrt(len(b))))
    if not shared:
        return _Seeds(unpaired, unpaired, len(a) + len(b) - 2.0, np.nan)
    known = len(a) > 2 and _sd(a) > 0 and _sd(b) > 0
    correlation = float(np.corrcoef(a, b)[0, 1]) if known else np.nan
    return _Seeds(_sd(a - b) / np.sqrt(len(a)), unpaired, len(a) - 1.0, correlation)


def compare(table: pd.DataFrame, new: str, old: str) -> pd.DataFrame:
    """Compare two recipes of an experiment (hashes of any of their seeds), over the seeds both were run with.

    Raises:
        ValueError: a recipe is not there or never completed, or the two share no seed.
    """
    rows = table[table["state"] == "complete"].reset_index(drop=True)
    arm = arms(rows)
    sides = []
    for recipe in (new, old):
        found = np.flatnonzero(rows["recipe"].to_numpy() == recipe)
        if not len(found):
            raise ValueError(
                f"compare: there is no complete run of recipe {recipe!r} in this experiment. `golflab status NAME` lists them."
            )
        sides.append(rows[arm == arm[found[0]]].drop_duplicates("seed").set_index("seed").sort_index())
    common = sides[0].index.intersection(sides[1].index)
    shared = len(common) > 0
    left, right = (s.loc[common] if shared else s for s in sides)
    bits, size = documents(pd.concat([left, right]))
    out = paired(bits[: len(left)], bits[len(left) :], size, shared_seeds=shared)
    out["comparison"] = f"{new} − {old}"
    if not shared:
        out["doubt"] = out["doubt"].map(lambda d: "; ".join(filter(None, ["no seed in common: not paired", d])))
    return out


def seed_correlation(table: pd.DataFrame) -> pd.DataFrame:
    """What common random numbers bought: the share of the variance within recipes that the seed explains, over all recipes.

    Estimated from the two-way layout recipe × seed by mean squares; a difference of two recipes then has 1 − correlation of the
    variance it would have with independent seeds.

    Returns:
        one row: correlation, low, high (95 %, from the F distribution), recipes, seeds, sigma (of one run),
        sigma_difference (paired), doubt.
    """
    rows = table[table["state"] == "complete"] if "state" in table else table
    square = (
        pd.DataFrame({"arm": arms(rows), "seed": rows["seed"].to_numpy(), "bpb": rows["bpb"].to_numpy()})
        .pivot_table(index="arm", columns="seed", values="bpb")
        .dropna()
    )
    r, s = square.shape
    if r < 2 or s < 2:
        empty = {
            "correlation": np.nan,
            "low": np.nan,
            "high": np.nan,
            "recipes": r,
            "seeds": s,
            "sigma": np.nan,
            "sigma_difference": np.nan,
        }
        return pd.DataFrame([empty | {"doubt": "needs two recipes run with the same two seeds"}])
    y = square.to_numpy()
    seeds = r * np.var(y.mean(axis=0), ddof=1)
    rest = y - y.mean(axis=1, keepdims=True) - y.mean(axis=0) + y.mean()
    error = (rest**2).sum() / ((r - 1) * (s - 1))
    ratio = seeds / max(error, 1e-300)

    def share(f: float) -> float:
        return float(max((f - 1) / (f - 1 + r), 0.0))

    upper, lower = stats.f.ppf([0.975, 0.025], s - 1, (r - 1) * (s - 1))
    between = max((seeds - error) / r, 0.0)
    doubt = "few seeds: hardly more than a guess" if s < 4 else ""
    row = {
        "correlation": share(ratio),
        "low": share(ratio / upper),
        "high": share(ratio / lower),
        "recipes": r,
        "seeds": s,
        "sigma": float(np.sqrt(between + error)),
        "sigma_difference": float(np.sqrt(2 * error)),
        "doubt": doubt,
    }
    return pd.DataFrame([row])


def _half(sources: Sequence[tuple[float, float]], alpha: float) -> float:
    """Half the interval of level 1 − alpha of an estimate whose error has several (standard error, degrees of freedom)."""
    return float(np.sqrt(sum((se * special.stdtrit(df, alpha / 2)) ** 2 for se, df in sources)))


def _p_value(delta: float, sources: Sequence[tuple[float, float]]) -> float:
    """The level at which the interval of `_half` just touches zero."""
    gap, least = abs(delta), 1e-60
    if gap == 0 or _half(sources, least) <= gap:
        return 1.0 if gap == 0 else least
    return float(np.exp(optimize.brentq(lambda log: _half(sources, np.exp(log)) - gap, np.log(least), 0.0)))


def _sd(x: np.ndarray) -> float:
    return float(x.std(ddof=1)) if len(x) > 1 else np.nan


def _bootstrap(gaps: np.ndarray, size: np.ndarray, draws: int) -> float:
    """Standard error over documents of ``Σ gaps / Σ size``, from a fixed seed, so that a report reads the same twice."""
    if len(gaps) < 2:
        return 0.0
    generator = np.random.default_rng(0)
    picks = generator.multinomial(len(gaps), np.full(len(gaps), 1 / len(gaps)), size=draws)
    return float(((picks @ gaps) / (picks @ size)).std(ddof=1))
