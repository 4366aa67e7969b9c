"""Whether cells differ by more than the chance of their seeds: Welch's t-test against one cell, corrected by Holm.

    t = (x̄ - ȳ) / √(s_x² / n_x + s_y² / n_y), with the degrees of freedom of Welch and Satterthwaite

The test is about the means over all training seeds; the paired bootstrap is about test sentences.
Sources: Welch 1947; Holm 1979.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from nlpcli.config.optional_packages import optional

EXTRA = "stats"


def welch_p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """The two-sided p-value; nan where neither sample varies. Raises: NlpcliError where scipy is not installed."""
    stats = optional("scipy.stats", EXTRA, "a test over seeds")
    if len(set(first)) == 1 and len(set(second)) == 1:
        return math.nan
    return float(stats.ttest_ind(first, second, equal_var=False).pvalue)


def corrected(p_values: Sequence[float]) -> list[float]:
    """p-values that hold for all tests together, by Holm's step-down procedure."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    scaled = (p_values[place] * (len(order) - rank) for rank, place in enumerate(order))
    found = [0.0] * len(order)
    for place, value in zip(order, itertools.accumulate(scaled, max), strict=True):
        found[place] = min(value, 1.0)
    return found
