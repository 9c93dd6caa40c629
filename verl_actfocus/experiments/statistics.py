"""Intervals around success rates and their differences, all computed by scipy.

An evaluation plays several episodes on each of a fixed set of tasks. Episodes of one task are alike, so what is
resampled are tasks with all their episodes. Two methods, or two moments of one run, are evaluated on the same tasks, so
they are compared task by task. With several seeds the unit is the training run: intervals are Student's t over seeds (a
bootstrap of a handful of values would be far too narrow).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.results import Outcomes, same_tasks

#: Confidence level of all intervals.
CONFIDENCE = 0.95
#: Bootstrap resamples; the generator's seed is fixed so that a report can be made again.
RESAMPLES = 9999
_SEED = 0

#: What an interval over tasks covers.
ONE_SEED = (
    "One training seed: the interval covers the sampling of evaluation tasks and episodes only, not how much a "
    "repeated training run would differ."
)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval."""

    #: A share between 0 and 1, or a difference of shares.
    value: float
    #: Lower and upper end; None if the data admit no interval.
    interval: tuple[float, float] | None
    #: What the interval is, in words.
    covers: str

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.interval is not None and self.interval[0] > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.interval is not None and self.interval[1] < 0


def success_rate(evaluations: Sequence[Outcomes]) -> Estimate:
    """Estimate the success rate of a method.

    Args:
        evaluations: one evaluation for each seed.

    Returns:
        The mean over seeds. One seed: bootstrap interval over tasks, or the exact binomial one for as many trials as
        there are tasks if all tasks have the same rate (nothing to resample). Several: t interval over seeds.
    """
    if len(evaluations) > 1:
        estimate = _over_seeds(np.array([outcomes.rate for outcomes in evaluations]))
        return _clipped(estimate, 0.0, 1.0)
    (outcomes,) = evaluations
    rates = outcomes.successes / outcomes.episodes
    if np.ptp(rates) == 0:
        return Estimate(outcomes.rate, _exact(outcomes), "exact binomial interval with every task as one trial")
    return over_tasks(outcomes.rate, (outcomes.successes, outcomes.episodes), _rate)


def difference(second: Sequence[Outcomes], first: Sequence[Outcomes]) -> Estimate:
    """Estimate how much higher the success rate of one method is than that of another, `second` − `first`.

    Args:
        second: one evaluation for each seed.
        first: evaluations of the other method for the same seeds in the same order.

    Returns:
        The mean difference. One seed: paired bootstrap interval over tasks. Several: paired t interval over seeds.

    Raises:
        ExperimentError: the seeds do not pair up, or the tasks differ.
    """
    if len(second) != len(first):
        raise ExperimentError(f"{len(second)} seeds of one method cannot be paired with {len(first)} of the other")
    same_tasks([*second, *first])
    if len(second) > 1:
        pairs = zip(second, first, strict=True)
        return _clipped(_over_seeds(np.array([after.rate - before.rate for after, before in pairs])), -1.0, 1.0)
    return _paired_over_tasks(second[0], first[0])


def improvement(final: Sequence[Outcomes], start: Sequence[Outcomes]) -> Estimate:
    """Estimate how much training raised the success rate of these very runs, by more than evaluations scatter.

    Args:
        final: the last evaluation for each seed.
        start: the evaluation before training for each seed.

    Returns:
        The difference with a paired bootstrap interval over tasks, the seeds' episodes pooled by task.

    Raises:
        ExperimentError: the tasks differ.
    """
    same_tasks([*final, *start])
    return _paired_over_tasks(Outcomes.pooled(final), Outcomes.pooled(start))


def _paired_over_tasks(second: Outcomes, first: Outcomes) -> Estimate:
    value = second.rate - first.rate
    counts = (second.successes, second.episodes, first.successes, first.episodes)
    if np.ptp(second.successes / second.episodes - first.successes / first.episodes) == 0:
        return Estimate(value, None, "no interval: the difference is the same on every task")
    return over_tasks(value, counts, _rate_difference)


def over_tasks(value: float, counts: tuple[NDArray, ...], statistic: Callable[..., NDArray]) -> Estimate:
    """Estimate a statistic of sums over tasks, resampling the tasks with all their episodes.

    Args:
        value: the statistic of all tasks.
        counts: what the statistic is computed from, arrays ``(tasks,)``.
        statistic: takes these arrays and ``axis``, as `scipy.stats.bootstrap` calls it.
    """
    result = stats.bootstrap(
        counts,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(_SEED),
    )
    low, high = result.confidence_interval
    return Estimate(value, (float(low), float(high)), f"bootstrap over the {len(counts[0])} tasks")


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Estimate a quantity of which every seed gives one value: the mean with its t interval.

    A single seed admits no interval.
    """
    if len(values) == 1:
        return Estimate(float(values[0]), None, "no interval: one seed")
    return _over_seeds(np.asarray(values, dtype=np.float64))


def _over_seeds(values: NDArray[np.float64]) -> Estimate:
    value = float(values.mean())
    if np.ptp(values) == 0:
        return Estimate(value, None, f"no interval: all {len(values)} seeds gave the same value")
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(CONFIDENCE)
    return Estimate(value, (float(low), float(high)), f"t interval over {len(values)} seeds")


def _clipped(estimate: Estimate, low: float, high: float) -> Estimate:
    if estimate.interval is None:
        return estimate
    ends = (max(low, estimate.interval[0]), min(high, estimate.interval[1]))
    return Estimate(estimate.value, ends, estimate.covers)


def _exact(outcomes: Outcomes) -> tuple[float, float]:
    tasks = len(outcomes.tasks)
    interval = stats.binomtest(round(outcomes.rate * tasks), tasks).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def _rate(successes: NDArray, episodes: NDArray, axis: int = -1) -> NDArray:
    return successes.sum(axis=axis) / episodes.sum(axis=axis)


def _rate_difference(
    successes: NDArray, episodes: NDArray, other_successes: NDArray, other_episodes: NDArray, axis: int = -1
) -> NDArray:
    return _rate(successes, episodes, axis) - _rate(other_successes, other_episodes, axis)
