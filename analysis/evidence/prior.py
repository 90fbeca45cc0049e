"""What published effects let one expect of a technique in a setting of one's own: a mean and a standard deviation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from golflab.analysis.evidence.published import load, summary
from golflab.analysis.inference.meta_analysis import random_effects

WORDS = ("none", "published")
Expected = dict[str, tuple[float, float]]


def expected(table: pd.DataFrame | None = None) -> Expected:
    """Predict the effect of switching a technique on in a setting that nobody has published.

    Published means are shrunk towards zero, by empirical Bayes. Let m be the random-effects mean of a technique and v the
    variance of its effect in a new setting: the mean's squared error plus the variance between settings. Let t² be the variance
    of true effects over all techniques (Paule and Mandel's, from all m and v). Then the expected effect is m·t²/(t² + v), and
    its variance t²·v/(t² + v). A technique with one source gets the median variance between settings of the others.

    Only rows at full scale count. Smaller settings contradict each other too much: the median standard deviation between them
    is 0.0044 bits per byte, against 0.0019 at full scale. What quantisation costs is left out, and so is what was measured
    instead of another technique: these are other questions.

    Args:
        table: of `golflab.analysis.evidence.published.load`; by default all of it.

    Returns:
        technique -> mean and standard deviation of its effect, in bits per byte (negative is better); empty where fewer than
        two techniques have a published effect.
    """
    table = load() if table is None else table
    told = summary(table[(table["metric"] != "cost") & (table["scale"] == "full")])
    told = told[(told["knob"] == "") & (told["instead_of"] == "")]
    if len(told) < 2:
        return {}
    means, between = told["delta_bpb"].to_numpy(float), told["between"].to_numpy(float)
    known = between[np.isfinite(between)]
    usual = float(np.median(known)) if len(known) else 0.0
    return dict(zip(told["technique"], shrunk(means, told["se"].to_numpy(float) ** 2 + _or(between, usual) ** 2), strict=True))


def shrunk(means: np.ndarray, variances: np.ndarray) -> list[tuple[float, float]]:
    """Posterior means and standard deviations of effects, whose distribution over techniques is N(0, t²); see `expected`.

    Args:
        means: (k,) published.
        variances: (k,) of the effect in a new setting around these means.
    """
    spread = random_effects(means, np.sqrt(variances)).between ** 2
    share = spread / (spread + variances)
    return [(float(m), float(s)) for m, s in zip(means * share, np.sqrt(share * variances), strict=True)]


def asked(word: Any) -> Any:
    """The expected effects that a user asked for by ``--prior``; what is no word (numbers of the user's own) stays as it is.

    Raises:
        ValueError: another word.
    """
    if not isinstance(word, str):
        return word
    if word not in WORDS:
        raise ValueError(
            f"prior={word!r} must be one of {', '.join(WORDS)}, or in Python technique -> (mean, standard deviation) in bits "
            "per byte."
        )
    return expected() if word == "published" else {}


def _or(values: np.ndarray, other: float) -> np.ndarray:
    return np.where(np.isfinite(values), values, other)
