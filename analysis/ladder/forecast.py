"""From paired differences on small rungs to every technique's effect at full scale, with an interval and a verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from golflab.analysis.ladder.hierarchy import DRAWS, FULL, NEW, TREND, Array, Hierarchy, Posterior
from golflab.analysis.ladder.noise import RUNG, checked, variances
from golflab.analysis.ladder.tails import joint_draws

SURE = 0.95  # a verdict is given where the model gives it this probability at least
VERDICTS = ("persists", "grows", "fades", "flips", "cannot tell")
# The challenge: what its better entries have, and what they see in ten minutes of eight GPUs.
FULL_PARAMETERS, FULL_TOKENS_PER_PARAMETER = 27e6, 270.0
CHALLENGE = np.log([FULL_TOKENS_PER_PARAMETER, FULL_PARAMETERS])
# Prior standard deviation of an effect at the challenge's scale, bits per byte: more than 80 of 100 published effects are
# smaller. Without it, the steep slopes of very short runs would be extrapolated to effects of half a bit.
FULL_EFFECT = 0.03
COLUMNS = [
    "technique",
    "verdict",
    "delta_full",
    "low",
    "high",
    "sd",
    "p_helps",
    "delta_ladder",
    "ladder_sd",
    "smallest",
    "largest",
    "rungs",
    "replicates",
]


@dataclass(frozen=True)
class Ladder:
    """A fitted ladder.

    Attributes:
        differences: the rows it was fitted to, with ``variance`` and ``rung`` (its number).
        names: techniques, in the order of all arrays.
        model: with its data.
        thetas: (draws, 9 + techniques) draws of the model's numbers: θ of `golflab.analysis.ladder.hierarchy`, and log s.
        full: (2,) log tokens per parameter and log parameters that are predicted.
    """

    differences: pd.DataFrame
    names: tuple[str, ...]
    model: Hierarchy
    thetas: Array
    full: Array

    def at(self, points: Array) -> NDArray[np.int64]:
        """Numbers of the rungs that these points are, `NEW` where none ran there."""
        known = self.differences.drop_duplicates("rung").sort_values("rung")
        gaps = np.abs(points[:, None] - coordinates(known)[None]).max(axis=2)
        return np.where(gaps.min(axis=1) < 1e-6, known["rung"].to_numpy(int)[gaps.argmin(axis=1)], NEW)

    def posterior(self, points: Array | None = None) -> Posterior:
        """The ladder's middle, full scale, then these points: (2 + p) points of every technique."""
        extra = np.zeros((0, 2)) if points is None else points
        where = np.vstack([self.model.middle, self.full, extra])
        target = FULL if np.allclose(self.full, CHALLENGE) else NEW
        return self.model.posterior(self.thetas, where, np.array([TREND, target, *self.at(extra)]), len(self.names))


def fit(
    differences: pd.DataFrame,
    *,
    parameters: float = FULL_PARAMETERS,
    tokens_per_parameter: float = FULL_TOKENS_PER_PARAMETER,
    draws: int = DRAWS,
    seed: int = 0,
) -> Ladder:
    """Fit the hierarchical model to paired differences.

    Args:
        differences: see `golflab.analysis.ladder.noise.checked`.
        parameters: of the model that is predicted.
        tokens_per_parameter: that it is trained on.
        draws: of the model's own numbers.
        seed: of the draws.

    Raises:
        ValueError: the table is not sound, or ``parameters`` or ``tokens_per_parameter`` is not above 0.
    """
    for name, value in (("parameters", parameters), ("tokens_per_parameter", tokens_per_parameter)):
        if not value > 0 or not np.isfinite(value):
            raise ValueError(f"ladder: {name}={value!r} of full scale must be above 0.")
    table = checked(differences)
    table["variance"] = variances(table)
    rungs, numbered = np.unique(table[RUNG].to_numpy(float), axis=0, return_inverse=True)
    table["rung"] = numbered.ravel()
    names, numbers = np.unique(table["technique"].to_numpy(str), return_inverse=True)
    middle = np.log(rungs[:, ::-1]).mean(axis=0)
    count = len(names)
    model = Hierarchy(  # the prior about full scale enters as one more measurement of every technique: 0 ± FULL_EFFECT
        np.append(numbers, np.arange(count)),
        np.vstack([coordinates(table), np.tile(CHALLENGE, (count, 1))]),
        np.append(table["delta_bpb"].to_numpy(float), np.zeros(count)),
        np.append(table["variance"].to_numpy(float), np.full(count, FULL_EFFECT**2)),
        np.append(table["rung"].to_numpy(int), np.full(count, FULL)),
        middle,
    )
    full = np.log([tokens_per_parameter, parameters])
    return Ladder(table, tuple(map(str, names)), model, joint_draws(model, count, draws, seed), full)


def predict(ladder: Ladder, *, level: float = 0.9) -> pd.DataFrame:
    """Every technique's effect at full scale.

    Args:
        ladder: of `fit`.
        level: of the prediction intervals.

    Returns:
        best first: technique; verdict, one of `VERDICTS`; delta_full (bits per byte, negative is better), low and high
        (prediction interval of the true effect there), sd; p_helps, the probability that it is below 0; delta_ladder and
        ladder_sd, the effect in the middle of the ladder; smallest and largest, what the rung with the fewest and the most
        training operations measured (the naive answers); rungs; replicates.
    """
    if not 0 < level < 1:
        raise ValueError(f"ladder: level={level!r} must lie between 0 and 1.")
    samples = ladder.posterior().samples()
    here, full = samples[..., 0], samples[..., 1]
    low, high = np.quantile(full, [(1 - level) / 2, (1 + level) / 2], axis=0)
    table = pd.DataFrame({"technique": ladder.names, "verdict": verdicts(here, full)})
    table = table.assign(delta_full=full.mean(axis=0), low=low, high=high, sd=full.std(axis=0))
    table = table.assign(p_helps=(full < 0).mean(axis=0), delta_ladder=here.mean(axis=0), ladder_sd=here.std(axis=0))
    table = table.merge(_measured(ladder.differences), on="technique")
    return table[COLUMNS].sort_values("delta_full", kind="stable").reset_index(drop=True)


def path(ladder: Ladder, steps: int = 9, level: float = 0.9) -> pd.DataFrame:
    """The predictions along the straight way, in logarithms, from the ladder's dearest rung to full scale: what a plot shades.

    Returns:
        ``steps`` rows a technique: technique, tokens_per_parameter, parameters, mean, low and high (of the trend, without a
        rung's own deviation).
    """
    measured = coordinates(ladder.differences)
    begin = measured[measured.sum(axis=1).argmax()]
    points = begin + np.linspace(0, 1, steps)[:, None] * (ladder.full - begin)
    rungs = np.full(steps, TREND)
    mean, covariance = ladder.model.posterior(ladder.thetas, points, rungs, len(ladder.names)).moments()
    half = float(stats.norm.ppf(0.5 + level / 2)) * np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    way = pd.DataFrame(np.exp(points), columns=["tokens_per_parameter", "parameters"])
    return pd.concat(
        [
            way.assign(technique=name, mean=mean[k], low=mean[k] - half[k], high=mean[k] + half[k])
            for k, name in enumerate(ladder.names)
        ],
        ignore_index=True,
    )


def verdicts(here: Array, full: Array) -> list[str]:
    """What becomes of effects, from (samples, techniques) joint draws in the middle of the ladder and at full scale.

    The first of these that has probability `SURE` or more: *flips*, the sign at full scale is the other one; *grows*, same
    sign and larger; *fades*, the sign on the ladder is known and less than half is left at full scale; *persists*, the same
    sign in both. Otherwise *cannot tell*.
    """
    told = chances(here, full)
    found = np.full(here.shape[1], "cannot tell", dtype=object)
    for name in ("persists", "fades", "grows", "flips"):  # what comes later outranks
        found[told[name] >= SURE] = name
    return [str(f) for f in found]


def chances(here: Array, full: Array) -> dict[str, Array]:
    """Probability of each verdict but the last, over the first axis."""
    out = {}
    sides = {
        "persists": lambda h, f: (h > 0) & (f > 0),
        "grows": lambda h, f: (f > h) & (h > 0),
        "fades": lambda h, f: (h > 0) & (np.abs(f) < h / 2),
        "flips": lambda h, f: (h > 0) & (f < 0),
    }
    for name, holds in sides.items():
        out[name] = np.maximum(holds(here, full).mean(axis=0), holds(-here, -full).mean(axis=0))
    return out


def coordinates(table: pd.DataFrame) -> Array:
    """(n, 2) log tokens per parameter and log parameters."""
    return np.log(table[["tokens_per_parameter", "parameters"]].to_numpy(float))


def _measured(differences: pd.DataFrame) -> pd.DataFrame:
    """Per technique what the cheapest and the dearest rung measured, how many rungs it has, and how many replicates in all."""
    work = differences["parameters"] ** 2 * differences["tokens_per_parameter"]
    ordered = differences.assign(work=work).sort_values("work", kind="stable").groupby("technique")
    told = ordered["delta_bpb"].agg(smallest="first", largest="last")
    return told.assign(rungs=ordered["rung"].nunique(), replicates=ordered["replicates"].sum()).reset_index()
