"""Spearman's rank correlation within strata: the groups of one training step are ranked among themselves.

Over training, signals and spreads both drift. Groups of several steps that were ranked together would correlate by
that alone, so ranks are taken and centred within each step, and pooled then. With one step this is Spearman's ρ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

#: Most pairs whose p-value is that of all permutations; above it is Student's t, as scipy's is.
EXACT = 9
#: (pairs of a stratum, 2): the values.
Strata = Sequence[NDArray[np.float64]]


def pooled_ranks(strata: Strata) -> list[NDArray[np.float64]]:
    """Return ranks of both values, centred and scaled to the size of their stratum; ties share their mean rank."""
    ranks = (stats.rankdata(pairs, axis=0) for pairs in strata)
    return [(one - one.mean(axis=0)) / (len(one) + 1) for one in ranks]


def correlation(ranks: Strata) -> float:
    """Return the correlation of `pooled_ranks`; NaN where one of the two is constant in every stratum."""
    one, other = np.concatenate(ranks).T
    size = math.sqrt((one**2).sum() * (other**2).sum())
    return float(np.clip((one * other).sum() / size, -1.0, 1.0)) if size > 0 else math.nan


def p_value(ranks: Strata) -> float:
    """Return the two-sided p-value of no association within the strata.

    Up to `EXACT` pairs it is the share of all permutations within the strata that correlate at least as much. Above it
    is that of Student's t with a degree of freedom less for every stratum, and not below what permutations could give.

    Args:
        ranks: of `pooled_ranks`, with a correlation.
    """
    count = sum(map(len, ranks))
    if count <= EXACT:
        sums = np.zeros(1)
        for one, other in (pairs.T for pairs in ranks):
            sums = (sums[:, None] + one[_orders(len(one))] @ other).ravel()
        seen = abs(sum(float(one @ other) for one, other in (pairs.T for pairs in ranks)))
        return float(np.mean(np.abs(sums) >= seen - 1e-9))
    rho, freedom = correlation(ranks), count - len(ranks) - 1
    if freedom < 1:
        return 1.0
    t = math.inf if abs(rho) == 1 else abs(rho) * math.sqrt(freedom / (1 - rho**2))
    least = 2 / math.prod(math.factorial(len(pairs)) for pairs in ranks)
    return max(float(2 * stats.t.sf(t, freedom)), min(1.0, least))


@lru_cache(maxsize=EXACT)
def _orders(count: int) -> NDArray[np.int64]:
    return np.array(list(permutations(range(count))), dtype=np.int64)
