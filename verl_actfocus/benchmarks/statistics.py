"""Median, spread and ratio of what was measured in rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

#: Resamples of a bootstrap interval, and the share of ratios that it holds.
RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """How measured values are distributed, in their own unit."""

    count: int
    median: float
    least: float
    #: First and third quartile, between which half of the values lie.
    quartiles: tuple[float, float]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise values.

        Raises:
            ValueError: there are none.

        Example:
            >>> Spread.of([4.0, 1.0, 2.0, 3.0]).median
            2.5
        """
        if not values:
            raise ValueError("nothing was measured: there is no median of no values")
        low, median, high = (float(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
        return cls(len(values), median, float(min(values)), (low, high))

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Ratio:
    """A ratio of two medians and the interval that resampling the rounds gives."""

    value: float
    #: None where there is a single round, which says nothing about another one.
    interval: tuple[float, float] | None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def __str__(self) -> str:
        interval = "" if self.interval is None else f" [{self.interval[0]:.2f}, {self.interval[1]:.2f}]"
        return f"{self.value:.2f}{interval}"


def ratio_of_medians(second: Sequence[Sequence[float]], first: Sequence[Sequence[float]], seed: int = 0) -> Ratio:
    """Divide the median of what was measured second in every round by the median of what was measured first.

    The interval is a percentile bootstrap over the rounds: a round is drawn with both its halves, because what
    disturbs a machine for minutes disturbs both, and all values of a round are drawn together, because they share that
    machine's state.

    Args:
        second: values of each round.
        first: values of the same rounds.
        seed: of the resampling.

    Raises:
        ValueError: there are no rounds, not as many of both, or one is empty.

    Example:
        >>> str(ratio_of_medians([[3.0], [3.0]], [[2.0], [2.0]]))
        '1.50 [1.50, 1.50]'
    """
    if not first or len(first) != len(second) or not all([*first, *second]):
        raise ValueError(
            f"{len(second)} and {len(first)} rounds: a ratio needs the same rounds of both, with values in each"
        )
    value = _ratio(second, first)
    if len(first) == 1:
        return Ratio(value, None)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(first), size=(RESAMPLES, len(first)))
    # Few rounds have few different resamples: each is computed once.
    patterns, counts = np.unique(np.sort(drawn, axis=1), axis=0, return_counts=True)
    ratios = [_ratio([second[i] for i in pattern], [first[i] for i in pattern]) for pattern in patterns]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.repeat(ratios, counts), [tail, 1 - tail])
    return Ratio(value, (float(low), float(high)))


def _ratio(second: Sequence[Sequence[float]], first: Sequence[Sequence[float]]) -> float:
    return float(np.median(np.concatenate(second)) / np.median(np.concatenate(first)))
