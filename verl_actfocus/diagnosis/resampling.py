"""Intervals by bootstrap over independent units: groups of episodes, or states."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from verl_actfocus.experiments.statistics import CONFIDENCE

#: Resamples of a bootstrap.
RESAMPLES = 5000
#: Resamples at a time, which bounds the memory.
_AT_ONCE = 500
#: Share of the resamples that must have a value for there to be an interval.
_ENOUGH = 0.99
#: Fewest units that are resampled.
_FEWEST = 3


def interval(
    data: Sequence[NDArray[np.float64]], statistic: Callable[..., Any], *, seed: int = 0
) -> tuple[float, float] | None:
    """Return the central 95 % of a statistic over resamples of the units (percentile bootstrap).

    Args:
        data: arrays of shape `(units,)`, resampled together.
        statistic: takes the arrays with units along `axis` and returns one value for each resample; NaN where a
            resample has none.
        seed: of the resampling.

    Returns:
        Lower and upper end; None if there are fewer than three units, or more than a hundredth of the resamples have no
        value.
    """
    if len(data[0]) < _FEWEST:
        return None
    with warnings.catch_warnings():
        # Resamples without a value are counted below.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            tuple(data),
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=_AT_ONCE,
            method="percentile",
            confidence_level=CONFIDENCE,
            rng=np.random.default_rng(seed),
        )
    values = found.bootstrap_distribution[np.isfinite(found.bootstrap_distribution)]
    if len(values) < _ENOUGH * RESAMPLES:
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, (tail, 1 - tail)).tolist()
    return low, high
