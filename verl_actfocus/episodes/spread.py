"""Whether returns differ by more than rounding.

A return is a sum of turn rewards, and what a training run saves of it is a sum of float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Returns differ by rounding alone within this share of the largest: some units in the last place of float32.
RELATIVE_TOLERANCE = 1e-6
#: The same beside a return of 0, whose parts cancelled: far below the 1e-6 that veRL adds to a standard deviation.
ABSOLUTE_TOLERANCE = 1e-8


def differ(returns: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether the returns of each row differ by more than rounding.

    Args:
        returns: shape `(rows, returns)`, at least one in each row.

    Example:
        >>> differ(np.array([[-0.2, -0.20000000000000007], [0.0, 1.0]])).tolist()
        [False, True]
    """
    found: NDArray[np.bool_] = np.ptp(returns, axis=1) > rounding(np.abs(returns).max(axis=1))
    return found


def tied(values: NDArray[np.float64], largest: float) -> NDArray[np.float64]:
    """Return values of which those that differ by rounding alone are equal, so that they share a rank.

    Args:
        values: shape `(values,)`, made of returns.
        largest: largest absolute return that they are made of.

    Example:
        >>> tied(np.array([0.5, 0.2, 0.50000001]), 1.0).tolist()
        [0.5, 0.2, 0.5]
    """
    order = np.argsort(values)
    ascending = values[order]
    begins = np.concatenate([[True], np.diff(ascending) > rounding(largest)])
    found = np.empty_like(values)
    found[order] = ascending[begins][np.cumsum(begins) - 1]
    return found


def rounding(largest: Any) -> Any:
    """Return what rounding alone may make of a difference of returns.

    Args:
        largest: largest absolute return, or an array of them.
    """
    return RELATIVE_TOLERANCE * largest + ABSOLUTE_TOLERANCE


def spread(returns: Sequence[float]) -> float:
    """Return the standard deviation of a group's returns, exactly 0 where they differ by rounding alone.

    Args:
        returns: one for each trajectory, at least one.

    Example:
        >>> spread([10.3] * 7), spread([10.8]), spread([0.0, 1.0])
        (0.0, 0.0, 0.5)
    """
    values = np.asarray(returns, dtype=np.float64)
    return float(values.std()) if differ(values[None])[0] else 0.0
