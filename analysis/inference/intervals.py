"""Half the width of every interval: Student's t times the standard error."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats


def half_width(se: Any, df: Any, level: float = 0.95) -> Any:
    """Half the width of an interval; NaN if there is no degree of freedom.

    Args:
        se: standard error, a number or an array.
        df: degrees of freedom the error was estimated with.
        level: of the interval.
    """
    df = np.asarray(df, float)
    half = np.asarray(se, float) * stats.t.ppf(0.5 + level / 2, np.where(df > 0, df, np.nan))
    return float(half) if half.ndim == 0 else half
