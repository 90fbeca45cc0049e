"""Several estimates of one effect, made in different settings, as one: a random-effects mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Combined:
    """The mean of an effect over settings, of which those at hand are a sample.

    Attributes:
        mean: over settings.
        se: its standard error.
        low: of the interval of the mean.
        high: of the interval of the mean.
        between: standard deviation of the true effect between settings; NaN for one estimate.
        p_equal: chance of estimates that differ so much if the effect were equal everywhere (Cochran's Q); NaN for one.
        estimates: how many were combined.
    """

    mean: float
    se: float
    low: float
    high: float
    between: float
    p_equal: float
    estimates: int


def random_effects(effects: np.ndarray, errors: np.ndarray, level: float = 0.95) -> Combined:
    """Combine estimates by a random-effects model.

    The variance between settings is Paule and Mandel's (1982). The error of the mean is that of Hartung and Knapp (2001) and
    Sidik and Jonkman (2002), with Student's t for ``estimates - 1`` degrees of freedom; it takes the scatter of the estimates,
    so that it stays about right if all ``errors`` are wrong by one factor. Where the estimates agree better than their errors
    allow, the error by the model is used instead (Röver, Knapp and Friede, 2015).

    Args:
        effects: (k,) estimates.
        errors: (k,) their standard errors, positive.
        level: of the interval.

    Raises:
        ValueError: no estimate, or an error that is not positive.
    """
    effects, errors = np.asarray(effects, float), np.asarray(errors, float)
    if not len(effects) or len(effects) != len(errors) or not (errors > 0).all():
        raise ValueError(
            f"random_effects: got {len(effects)} effects and {len(errors)} errors, the smallest "
            f"{errors.min(initial=np.inf):g}; it needs one effect at least, and a positive error for each."
        )
    if len(effects) == 1:
        half = float(stats.norm.ppf(0.5 + level / 2) * errors[0])
        mean = float(effects[0])
        return Combined(mean, float(errors[0]), mean - half, mean + half, math.nan, math.nan, 1)
    from statsmodels.stats.meta_analysis import combine_effects  # its import takes a second

    found = combine_effects(effects, errors**2, method_re="iterated", use_t=True)
    mean, between = float(found.mean_effect_re), max(float(found.tau2), 0.0)
    se = max(float(found.sd_eff_w_re_hksj), float(found.sd_eff_w_re))
    half = float(stats.t.ppf(0.5 + level / 2, len(effects) - 1)) * se
    p_equal = float(stats.chi2.sf(found.q, len(effects) - 1))
    return Combined(mean, se, mean - half, mean + half, math.sqrt(between), p_equal, len(effects))
