"""95 % intervals over independent units: states, or groups of episodes.

How often they hold the true value was simulated, `tools/interval_coverage.py`; a percentile bootstrap holds it too
rarely where few states decide anything.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from verl_actfocus.experiments.results.statistics import CONFIDENCE

#: Fewest states, and among them fewest whose returns differ, of which shares get an interval.
FEWEST_STATES, FEWEST_DIFFERING = 20, 10
#: Fewest groups, without one for every step beyond the first, of which a rank correlation gets an interval.
FEWEST_GROUPS = 10


def ratio_of_means(
    part: NDArray[np.float64], whole: NDArray[np.float64], informative: int
) -> tuple[float, float] | None:
    """Return the interval of `mean(part) / mean(whole)` by Fieller's theorem (Fieller 1954, J. R. Stat. Soc. B 16).

    It holds every ratio r for which the mean of `part − r·whole` does not differ from 0 by Student's t. The degrees of
    freedom are those of the units that say anything about the ratio: units that are 0 in both add none.

    Args:
        part: shape `(units,)`.
        whole: shape `(units,)`, of positive mean.
        informative: number of units that are not 0 in both, at least 2.

    Returns:
        Lower and upper end; None if the mean of `whole` is not told from 0, so that the ratio has no bounds.
    """
    t = stats.t.ppf((1 + CONFIDENCE) / 2, informative - 1)
    # Squared, with the quantile: how far the means may be off.
    of_part, between, _, of_whole = (t**2 / len(part) * np.cov(part, whole)).ravel()
    square = whole.mean() ** 2 - of_whole
    if square <= 0:
        return None
    middle = part.mean() * whole.mean() - between
    # Not below 0 but for rounding, since the estimate itself is in the interval.
    reach = math.sqrt(max(0.0, middle**2 - square * (part.mean() ** 2 - of_part)))
    return float((middle - reach) / square), float((middle + reach) / square)


def rank_correlation(rho: float, groups: int) -> tuple[float, float]:
    """Return the interval of Spearman's correlation by Fisher's z (Bonett and Wright 2000, Psychometrika 65).

    Args:
        rho: the correlation, strictly between -1 and 1.
        groups: number of groups, at least 4.
    """
    error = math.sqrt((1 + rho**2 / 2) / (groups - 3))
    reach = stats.norm.ppf((1 + CONFIDENCE) / 2) * error
    return math.tanh(math.atanh(rho) - reach), math.tanh(math.atanh(rho) + reach)
