"""Intervals around success rates and their differences.

An evaluation plays several episodes on each of a fixed set of tasks. Episodes of one task are alike, so tasks are what
is sampled. Two weightings, or two moments of one run, are evaluated on the same tasks, so they are compared task by
task. With several seeds the unit is the training run: intervals are Student's t over seeds.

One seed: a rate gets the interval of a beta-binomial model (`share`), a difference the one that follows from the two
rates and their correlation over tasks (`difference`), any other ratio one from its clustered standard error (`ratio`).
Simulations in `tests/unit/experiments/results/test_coverage.py` say how often they hold the true value. A bootstrap
over tasks holds it too rarely where few tasks differ from the rest, and has nothing to resample where none does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from verl_actfocus.episodes.clusters import Outcomes, on_common_tasks, ratio_standard_error, residuals
from verl_actfocus.storage.errors import ExperimentError

#: Confidence level of all intervals.
CONFIDENCE = 0.95
#: Largest difference between shares that are equal, from rounding.
_ROUNDING = 1e-12
_TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)

#: What an interval over tasks covers.
ONE_SEED = (
    "One training seed: the interval covers the sampling of evaluation tasks and episodes only, not how much a "
    "repeated training run would differ."
)
#: Correlations between the episodes of a task at which the beta-binomial likelihood is evaluated.
_CORRELATIONS = (np.arange(40) + 0.5) / 40


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
    """Estimate the success rate of a weighting.

    Args:
        evaluations: one evaluation for each seed.

    Returns:
        The mean over seeds. One seed: the interval of `share`. Several: t interval over seeds.
    """
    if len(evaluations) > 1:
        estimate = _over_seeds(np.array([outcomes.rate for outcomes in evaluations]))
        return clipped(estimate, 0.0, 1.0)
    (outcomes,) = evaluations
    return share(outcomes.successes, outcomes.episodes)


def difference(second: Sequence[Outcomes], first: Sequence[Outcomes]) -> Estimate:
    """Estimate how much higher the success rate of one weighting is than that of another, `second` − `first`.

    Args:
        second: one evaluation for each seed.
        first: evaluations of the other weighting for the same seeds in the same order.

    Returns:
        The mean difference. One seed: of the tasks that both have, with an interval over them, paired by task. Several:
        of the rates, whose tasks need not pair up, with a paired t interval over seeds.

    Raises:
        ExperimentError: the seeds do not pair up, or the tasks differ by more than excluded episodes explain.
    """
    if len(second) != len(first):
        raise ExperimentError(f"{len(second)} seeds of one weighting cannot be paired with {len(first)} of the other")
    common = _on_common_tasks([*second, *first])
    if len(second) > 1:
        pairs = zip(second, first, strict=True)
        return clipped(_over_seeds(np.array([after.rate - before.rate for after, before in pairs])), -1.0, 1.0)
    return _paired_over_tasks(*common)


def improvement(final: Sequence[Outcomes], start: Sequence[Outcomes]) -> Estimate:
    """Estimate how much training raised the success rate of these very runs, by more than evaluations scatter.

    Args:
        final: the last evaluation for each seed.
        start: the evaluation before training for each seed.

    Returns:
        The difference on the tasks that all have, with an interval over them, paired by task; the seeds' episodes are
        pooled by task.

    Raises:
        ExperimentError: the tasks differ by more than excluded episodes explain.
    """
    common = _on_common_tasks([*final, *start])
    return _paired_over_tasks(Outcomes.pooled(common[: len(final)]), Outcomes.pooled(common[len(final) :]))


def share(successes: NDArray, trials: NDArray) -> Estimate:
    """Estimate a share of trials of which every task has some.

    Model: the rates of the tasks follow a Beta distribution with mean μ, and two trials of a task have the correlation
    ρ (Skellam 1948, *JRSS B* 10). The interval holds the central 95 % of μ's posterior under Jeffreys' prior of a
    proportion for μ and a uniform one for ρ. With one trial for each task it is Jeffreys' interval (Brown, Cai and
    DasGupta 2001, *Statistical Science* 16). Integrating over ρ, in place of an estimate of it, widens the interval
    where the tasks tell little about ρ, as with no success at all: an estimated effective sample size is too often too
    large (Franco et al. 2019, *J. Survey Statistics and Methodology* 7).

    Args:
        successes: successful trials of each task, `(tasks,)`; need not be whole.
        trials: trials of each task, `(tasks,)`; need not be whole.

    Returns:
        The share of all trials, and the interval; it reaches 0 if no trial succeeded and 1 if all did.
    """
    value = float(successes.sum() / trials.sum())
    points = max(256, math.ceil(4 * math.sqrt(trials.sum())))
    pairs, tasks = np.unique(np.stack([successes, trials], axis=1).astype(float), axis=0, return_counts=True)
    log_likelihood = sum(n * _log_likelihood(*pair, points) for n, pair in zip(tasks, pairs.tolist(), strict=True))
    density = np.exp(log_likelihood - np.max(log_likelihood)).sum(axis=1)
    cumulated = np.cumsum(density) - density / 2
    low, high = np.interp(_TAILS, cumulated / density.sum(), _means(points)).tolist()
    ends = (0.0 if value == 0 else min(low, value), 1.0 if value == 1 else max(high, value))
    return Estimate(value, ends, f"beta-binomial interval over {_tasks(len(trials))}")


def _means(points: int) -> NDArray[np.float64]:
    """Grid over the mean rate, even in arcsin √μ, which is to say in Jeffreys' prior; `(points,)`."""
    return np.sin((np.arange(points) + 0.5) / points * np.pi / 2) ** 2


@lru_cache(maxsize=256)
def _log_likelihood(successes: float, trials: float, points: int) -> NDArray[np.float64]:
    """Beta-binomial log likelihood of one task on the grid, up to a constant, `(points, correlations)`."""
    both = 1 / _CORRELATIONS - 1
    alpha = _means(points)[:, None] * both
    return special.betaln(alpha + successes, both - alpha + trials - successes) - special.betaln(alpha, both - alpha)


def ratio(amounts: NDArray, counts: NDArray, *, bounded: bool = False) -> Estimate:
    """Estimate the ratio of two sums over tasks, such as response tokens over turns.

    Args:
        amounts: numerator of each task, `(tasks,)`.
        counts: denominator of each task, positive, `(tasks,)`.
        bounded: whether the ratio is a share, between 0 and 1. Its interval is made on the scale of log odds, which
            keeps it between 0 and 1 and lets it be as lopsided as such estimates are (Korn and Graubard 1998,
            *Survey Methodology* 24).

    Returns:
        The ratio with the t interval of its clustered standard error, tasks − 1 degrees of freedom; none if all tasks
        gave the same value.
    """
    value = float(amounts.sum() / counts.sum())
    if bounded and value in (0.0, 1.0):
        return share(amounts, counts)
    if np.ptp(amounts / counts) == 0:
        words = "the only task" if len(counts) == 1 else f"all {len(counts)} tasks"
        return Estimate(value, None, f"no interval: {words} gave the same value")
    half = stats.t.ppf(_TAILS[1], len(counts) - 1) * ratio_standard_error(amounts, counts)
    if bounded:
        half /= value * (1 - value)
        interval = (special.expit(special.logit(value) - half), special.expit(special.logit(value) + half))
    else:
        interval = (value - half, value + half)
    return Estimate(value, (float(interval[0]), float(interval[1])), f"t interval over {_tasks(len(counts))}")


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Estimate a quantity of which every seed gives one value: the mean with its t interval.

    A single seed admits no interval.
    """
    if len(values) == 1:
        return Estimate(float(values[0]), None, "no interval: one seed")
    return _over_seeds(np.asarray(values, dtype=np.float64))


def _paired_over_tasks(second: Outcomes, first: Outcomes) -> Estimate:
    """Estimate a difference of rates on the same tasks from the intervals of both.

    The method of variance estimates recovery (Zou and Donner 2008, *Statistics in Medicine* 27; for paired proportions
    Newcombe 1998, same journal 17): with the rates p, their intervals [l, u] and the correlation r of their errors,
    `L = p₂ − p₁ − √((p₂ − l₂)² − 2r(p₂ − l₂)(u₁ − p₁) + (u₁ − p₁)²)`, and the upper end likewise. r is the
    correlation over tasks as if there were one task more, on which the two rates vary as much as they can and
    independently: otherwise two evaluations that happen to agree on every task would have no uncertainty.
    """
    rates = [share(outcomes.successes, outcomes.episodes) for outcomes in (second, first)]
    (low, high), (other_low, other_high) = (rate.interval or (rate.value, rate.value) for rate in rates)
    up, down, other_up, other_down = (
        high - rates[0].value, rates[0].value - low, other_high - rates[1].value, rates[1].value - other_low
    )  # fmt: skip
    deviations = [residuals(outcomes.successes, outcomes.episodes) for outcomes in (second, first)]
    squares = [float(z @ z) + rate.value * (1 - rate.value) for z, rate in zip(deviations, rates, strict=True)]
    correlation = float(deviations[0] @ deviations[1]) / math.sqrt(math.prod(squares)) if all(squares) else 0.0
    value = rates[0].value - rates[1].value
    interval = (
        value - math.sqrt(down**2 - 2 * correlation * down * other_up + other_up**2),
        value + math.sqrt(up**2 - 2 * correlation * up * other_down + other_down**2),
    )
    return Estimate(value, interval, f"interval over {_tasks(len(first.tasks))}, paired")


def _on_common_tasks(evaluations: Sequence[Outcomes]) -> list[Outcomes]:
    try:
        return on_common_tasks(evaluations)
    except ValueError as error:
        raise ExperimentError(str(error)) from error


def _over_seeds(values: NDArray[np.float64]) -> Estimate:
    value = float(values.mean())
    if all_equal(values):
        return Estimate(value, None, f"no interval: all {len(values)} seeds gave the same value")
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(CONFIDENCE)
    return Estimate(value, (float(low), float(high)), f"t interval over {len(values)} seeds")


def all_equal(values: NDArray[np.float64] | Sequence[float]) -> bool:
    """Whether shares, or differences of shares, are equal but for rounding."""
    return bool(np.ptp(values) <= _ROUNDING)


def clipped(estimate: Estimate, low: float, high: float) -> Estimate:
    """Cut the interval of a quantity that lies between two values."""
    if estimate.interval is None:
        return estimate
    ends = (max(low, estimate.interval[0]), min(high, estimate.interval[1]))
    return Estimate(estimate.value, ends, estimate.covers)


def _tasks(count: int) -> str:
    return f"the {count} tasks" if count > 1 else "the only task"
