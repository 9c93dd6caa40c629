"""What training runs say together: p-values, aggregates over environments, a difference of differences.

The unit is the training run; how an evaluation's tasks and episodes scatter is part of how runs scatter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from verl_actfocus.experiments.results.statistics import CONFIDENCE, Estimate, all_equal

#: Resamples of a bootstrap.
RESAMPLES = 9999
#: Share of the scores that an interquartile mean leaves out at each end.
_TAIL = 0.25


def paired_p_value(differences: Sequence[float]) -> float | None:
    """Two-sided p-value of the t-test that the mean of paired differences is 0.

    Args:
        differences: one for each seed.

    Returns:
        The p-value; None for fewer than two differences, or if all are equal.
    """
    if len(differences) < 2 or all_equal(differences):
        return None
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Sequence[float | None], family: int) -> list[float | None]:
    """Correct p-values for their number (Holm 1979, *Scandinavian Journal of Statistics* 6).

    Args:
        p_values: of the comparisons that were made; None where there is no p-value.
        family: comparisons that were declared; those that were not made count as if their p-values were the largest.

    Returns:
        The corrected values, in the same order, at most 1.
    """
    made = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (value, place) in enumerate(made):
        largest = max(largest, min(1.0, (family - rank) * value))
        corrected[place] = largest
    return corrected


def interquartile_mean(scores: Sequence[NDArray]) -> Estimate:
    """Mean of the middle half of all scores (Agarwal et al. 2021, arXiv 2108.13264).

    Args:
        scores: the scores of each environment's runs, `(runs,)`, between 0 and 1.

    Returns:
        The mean, with the interval of a bootstrap over runs within environments.
    """

    def middle(*samples: NDArray, axis: int) -> NDArray:
        return stats.trim_mean(np.concatenate(samples, axis=axis), _TAIL, axis=axis)

    return _over_runs(scores, middle)


def probability_of_improvement(second: Sequence[NDArray], first: Sequence[NDArray]) -> Estimate:
    """Probability that a run of one method is above a run of another in the same environment (arXiv 2108.13264, § 4.3).

    Args:
        second: the scores of each environment's runs of one method, `(runs,)`.
        first: those of the other method, the same environments in the same order.

    Returns:
        The share of pairs of runs in which `second` is higher, ties counted half, averaged over environments, with the
        interval of a bootstrap over runs within environments and methods.
    """
    environments = len(second)

    def improved(*samples: NDArray, axis: int) -> NDArray:
        pairs = zip(samples[:environments], samples[environments:], strict=True)
        return np.mean([_higher(after, before) for after, before in pairs], axis=0)

    return _over_runs([*second, *first], improved)


def difference_of_means(second: Sequence[float], first: Sequence[float]) -> tuple[Estimate, float | None]:
    """Compare the means of two independent samples by Welch's t-test.

    Returns:
        Mean of `second` − mean of `first` with its interval, and the two-sided p-value; neither interval nor p-value
        if a sample has fewer than two values or neither scatters.
    """
    value = float(np.mean(second) - np.mean(first))
    if min(len(second), len(first)) < 2:
        return Estimate(value, None, "no interval: fewer than two seeds"), None
    if all_equal(second) and all_equal(first):
        return Estimate(value, None, "no interval: all seeds gave the same value"), None
    test = stats.ttest_ind(second, first, equal_var=False)
    low, high = test.confidence_interval(CONFIDENCE)
    covers = f"Welch's t interval over {len(second)} + {len(first)} seeds"
    return Estimate(value, (float(low), float(high)), covers), float(test.pvalue)


def _higher(second: NDArray, first: NDArray) -> NDArray:
    """Share of pairs in which the second is higher, over the last axis of both, ties counted half."""
    signs = np.sign(second[..., :, None] - first[..., None, :])
    return (1 + signs.mean(axis=(-2, -1))) / 2


def _over_runs(samples: Sequence[NDArray], statistic: Callable[..., NDArray]) -> Estimate:
    value = float(statistic(*samples, axis=-1))
    if min(len(sample) for sample in samples) < 2:
        return Estimate(value, None, "no interval: an environment has one seed")
    found = stats.bootstrap(
        samples, statistic, n_resamples=RESAMPLES, vectorized=True, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return Estimate(value, (float(found.low), float(found.high)), "bootstrap over runs within environments")
