"""Intervals hold the true value as often as they say, for evaluations of few tasks and of many.

Tasks are drawn, then episodes on them; the true value is the mean over all tasks that could have been drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.experiments.results.statistics import Estimate, difference, success_rate

#: Tasks and episodes of each; in total 128, 512, 256, 256.
DESIGNS = [(8, 16), (32, 16), (64, 4), (256, 1)]
#: Parameters of the Beta distribution from which the rates of the tasks are drawn.
RATES = [(0.5, 1.2), (5.0, 0.2), (1.0, 1.0)]
#: The level is 95 %; a simulation of this many evaluations scatters by half a percentage point.
SAMPLES, AT_LEAST = 1500, 0.93
Rates = NDArray[np.float64]


def evaluations(rng: np.random.Generator, rates: Rates, episodes: int) -> list[Outcomes]:
    """One evaluation for each row of task rates, `(samples, tasks)`."""
    tasks = np.arange(rates.shape[1])
    return [Outcomes(tasks, solved, np.full(len(tasks), episodes)) for solved in rng.binomial(episodes, rates)]


def coverage(estimates: list[Estimate], truth: float) -> float:
    """Share of the intervals that hold the true value."""
    return float(np.mean([low <= truth <= high for low, high in (estimate.interval for estimate in estimates)]))


@pytest.mark.parametrize(("tasks", "episodes"), DESIGNS)
@pytest.mark.parametrize(("a", "b"), RATES)
def test_a_rate(a: float, b: float, tasks: int, episodes: int) -> None:
    rng = np.random.default_rng(1)
    played = evaluations(rng, rng.beta(a, b, (SAMPLES, tasks)), episodes)
    assert coverage([success_rate([one]) for one in played], a / (a + b)) >= AT_LEAST


def few_can_be_solved(rng: np.random.Generator, shape: tuple[int, int]) -> Rates:
    """One task in five nearly always solved, the others hardly ever: no Beta distribution."""
    return np.where(rng.random(shape) < 0.2, 0.9, 0.02)


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng, shape: rng.beta(0.02, 2.0, shape), 0.02 / 2.02),
        (lambda rng, shape: rng.beta(0.05, 0.95, shape), 0.05),
        (lambda rng, shape: np.full(shape, 0.01), 0.01),
        (few_can_be_solved, 0.2 * 0.9 + 0.8 * 0.02),
    ],
)
def test_a_rate_near_zero_and_of_two_kinds_of_tasks(draw: Callable[..., Rates], truth: float) -> None:
    rng = np.random.default_rng(2)
    played = evaluations(rng, draw(rng, (SAMPLES, 32)), 16)
    assert coverage([success_rate([one]) for one in played], truth) >= AT_LEAST


def unrelated(rng: np.random.Generator, a: float, b: float, shape: tuple[int, int]) -> tuple[Rates, Rates]:
    """Two methods that are good at different tasks."""
    return rng.beta(a, b, shape), rng.beta(a, b, shape)


def better_everywhere(rng: np.random.Generator, a: float, b: float, shape: tuple[int, int]) -> tuple[Rates, Rates]:
    """One method has twice the odds of the other on every task."""
    rates = rng.beta(a, b, shape)
    return special.expit(special.logit(np.clip(rates, 1e-12, 1 - 1e-12)) + np.log(2)), rates


@pytest.mark.parametrize("pair", [unrelated, better_everywhere])
@pytest.mark.parametrize(("tasks", "episodes"), DESIGNS)
@pytest.mark.parametrize(("a", "b"), RATES)
def test_a_difference(pair: Callable[..., tuple[Rates, Rates]], a: float, b: float, tasks: int, episodes: int) -> None:
    """That of two methods, and the improvement of one, which is made in the same way."""
    rng = np.random.default_rng(3)
    many = pair(rng, a, b, (1000, 1000))
    second, first = (evaluations(rng, rates, episodes) for rates in pair(rng, a, b, (SAMPLES, tasks)))
    found = [difference([one], [other]) for one, other in zip(second, first, strict=True)]
    assert coverage(found, float((many[0] - many[1]).mean())) >= AT_LEAST
