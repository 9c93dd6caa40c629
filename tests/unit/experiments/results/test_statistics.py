"""Intervals agree with closed forms, and respect that episodes of one task are alike."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.experiments.results.statistics import Estimate, difference, improvement, ratio, success_rate
from verl_actfocus.storage.errors import ExperimentError

#: Quantile of the standard normal distribution for 95 %.
Z = 1.959964


def evaluation(successes: list[int], episodes: int = 4) -> Outcomes:
    """Successes of tasks 0, 1, … with the same number of episodes each."""
    count = len(successes)
    return Outcomes(np.arange(count), np.array(successes), np.full(count, episodes))


def random_evaluation(seed: int, tasks: int = 200, episodes: int = 4, mean: float = 0.4) -> Outcomes:
    """Tasks of different difficulty."""
    rng = np.random.default_rng(seed)
    rates = rng.beta(2 * mean, 2 * (1 - mean), tasks)
    return Outcomes(np.arange(tasks), rng.binomial(episodes, rates), np.full(tasks, episodes))


def normal_interval(values: np.ndarray) -> tuple[float, float]:
    """The central limit theorem's interval for the mean of independent values."""
    half = Z * values.std(ddof=1) / math.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def ends(estimate: Estimate) -> tuple[float, float]:
    assert estimate.interval is not None
    return estimate.interval


def test_one_seed_agrees_with_the_normal_interval_over_task_means() -> None:
    outcomes = random_evaluation(0)
    estimate = success_rate([outcomes])
    assert estimate.value == pytest.approx(outcomes.successes.sum() / 800)
    assert ends(estimate) == pytest.approx(normal_interval(outcomes.successes / 4), abs=0.006)
    assert "200 tasks" in estimate.covers


def test_episodes_of_one_task_do_not_count_as_independent() -> None:
    # All four episodes of a task agree: 100 tasks tell as much as 100 episodes, not 400.
    low, high = ends(success_rate([evaluation([4] * 30 + [0] * 70)]))
    half_of_100, half_of_400 = (Z * math.sqrt(0.3 * 0.7 / n) for n in (100, 400))
    assert (high - low) / 2 == pytest.approx(half_of_100, abs=0.008)
    assert (high - low) / 2 > 1.7 * half_of_400


def test_tasks_with_more_episodes_weigh_more() -> None:
    outcomes = Outcomes(np.arange(3), np.array([1, 0, 6]), np.array([1, 1, 6]))
    assert success_rate([outcomes]).value == pytest.approx(7 / 8)


@pytest.mark.parametrize("solved", [0, 1, 30, 256])
def test_with_one_episode_for_each_task_the_interval_is_jeffreys(solved: int) -> None:
    low, high = stats.beta.ppf([0.025, 0.975], solved + 0.5, 256 - solved + 0.5)
    expected = (0.0 if solved == 0 else low, 1.0 if solved == 256 else high)
    estimate = success_rate([evaluation([1] * solved + [0] * (256 - solved), 1)])
    assert ends(estimate) == pytest.approx(expected, abs=5e-4)


def test_the_interval_is_the_posterior_of_the_beta_binomial_model() -> None:
    # Integrated by scipy's beta-binomial on another grid: uniform in the correlation, Jeffreys' in the mean.
    solved = [0, 4, 1, 3, 0, 2]
    means, correlations = np.sin(np.linspace(0, np.pi / 2, 801)[1:-1]) ** 2, np.linspace(0, 1, 202)[1:-1]
    mean, both = means[:, None], 1 / correlations - 1
    likelihood = np.prod([stats.betabinom.pmf(n, 4, mean * both, (1 - mean) * both) for n in solved], axis=0)
    posterior = likelihood.sum(axis=1).cumsum() / likelihood.sum()
    expected = np.interp([0.025, 0.975], posterior, means)
    assert ends(success_rate([evaluation(solved)])) == pytest.approx(tuple(expected), abs=0.003)


@pytest.mark.parametrize("solved", [0, 4])
def test_tasks_that_all_agree_leave_open_how_other_tasks_differ(solved: int) -> None:
    estimate = success_rate([evaluation([solved] * 50)])
    low, high = ends(estimate)
    # Between 200 episodes that tell as much as 200 tasks, and as much as 50.
    widths = [stats.beta.ppf(0.975, 0.5, n + 0.5) for n in (200, 50)]
    assert widths[0] < high - low < widths[1]
    assert (low, high)[solved // 4] == estimate.value == solved / 4


def test_the_first_successes_do_not_make_the_interval_jump() -> None:
    intervals = [ends(success_rate([evaluation([1] * n + [0] * (32 - n), 16)])) for n in range(6)]
    uppers = [high for _, high in intervals]
    assert all(0.7 < after / before < 1.4 for before, after in pairwise(uppers))
    lowers = [low for low, _ in intervals]
    assert lowers == sorted(lowers) and lowers[1] < 1 / 512


def test_a_difference_is_paired_by_task() -> None:
    first, second = random_evaluation(1), random_evaluation(1)
    rng = np.random.default_rng(5)
    second = Outcomes(second.tasks, np.minimum(4, second.successes + rng.binomial(1, 0.3, 200)), second.episodes)
    estimate = difference([second], [first])
    per_task = (second.successes - first.successes) / 4
    assert estimate.value == pytest.approx(per_task.mean())
    assert ends(estimate) == pytest.approx(normal_interval(per_task), abs=0.004)
    # Unpaired, the tasks' difficulty would drown it.
    variances = [np.var(o.successes / 4, ddof=1) for o in (first, second)]
    unpaired = Z * math.sqrt(sum(variances) / 200)
    low, high = ends(estimate)
    assert (high - low) / 2 < unpaired / 3
    assert estimate.above_zero and not estimate.below_zero


def test_a_difference_changes_its_sign_with_the_order() -> None:
    first, second = random_evaluation(1, mean=0.3), random_evaluation(2, mean=0.5)
    forward, backward = difference([second], [first]), difference([first], [second])
    assert forward.value == pytest.approx(-backward.value)
    assert forward.above_zero and backward.below_zero


@pytest.mark.parametrize("solved", [[0] * 40, [4] * 40, [1] * 40, [0, 1, 2, 4] * 10])
def test_equal_evaluations_do_not_prove_that_there_is_no_difference(solved: list[int]) -> None:
    estimate = difference([evaluation(solved)], [evaluation(solved)])
    low, high = ends(estimate)
    assert estimate.value == 0.0 and low == pytest.approx(-high)
    assert 0.02 < high < 0.1


def test_the_same_difference_on_every_task_has_an_interval() -> None:
    low, high = ends(difference([evaluation([3] * 40)], [evaluation([1] * 40)]))
    assert 0.3 < low < 0.5 < high < 0.7


def test_several_seeds_give_students_interval_over_seeds() -> None:
    # Rates 0.2, 0.4, 0.6: mean 0.4, standard deviation 0.2; t quantile with 2 degrees of freedom 4.302653.
    estimate = success_rate([evaluation([1, 1, 1, 1, 1], 5), evaluation([2] * 5, 5), evaluation([3] * 5, 5)])
    half = 4.302653 * 0.2 / math.sqrt(3)
    assert estimate.value == pytest.approx(0.4)
    assert ends(estimate) == (0.0, pytest.approx(0.4 + half)) and 0.4 - half < 0
    assert "3 seeds" in estimate.covers


def test_several_seeds_are_paired_by_seed() -> None:
    # Differences 0.1, 0.2, 0.3: mean 0.2, standard deviation 0.1, although the seeds themselves lie far apart.
    base = [evaluation([n] * 10, 10) for n in (1, 4, 6)]
    other = [evaluation([n] * 10, 10) for n in (2, 6, 9)]
    estimate = difference(other, base)
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert estimate.value == pytest.approx(0.2)
    assert ends(estimate) == pytest.approx((0.2 - half, 0.2 + half))


def test_seeds_that_all_agree_admit_no_interval() -> None:
    estimate = success_rate([evaluation([1, 3]), evaluation([2, 2])])
    assert estimate.interval is None and "2 seeds" in estimate.covers


def test_a_difference_needs_partners_and_the_same_tasks() -> None:
    with pytest.raises(ExperimentError, match="cannot be paired"):
        difference([evaluation([1])], [evaluation([1]), evaluation([1])])
    with pytest.raises(ExperimentError, match="different tasks"):
        difference([evaluation([1, 2])], [evaluation([1, 2, 3])])


def test_a_task_that_an_evaluation_lacks_is_left_out_of_the_pairs() -> None:
    def without(outcomes: Outcomes, task: int) -> Outcomes:
        return outcomes.only(outcomes.tasks != task)

    first, second = random_evaluation(1, tasks=40), random_evaluation(2, tasks=40, mean=0.6)
    both = difference([without(second, 7)], [without(first, 7)])
    assert difference([second], [without(first, 7)]) == difference([without(second, 7)], [first]) == both
    assert "the 39 tasks" in both.covers
    assert improvement([second, second], [first, without(first, 7)]) == improvement(
        [without(second, 7)] * 2, [without(first, 7)] * 2
    )
    # Over seeds the runs are compared, each by its rate.
    rates = [without(second, 7).rate - first.rate, first.rate - second.rate]
    assert difference([without(second, 7), first], [first, second]).value == pytest.approx(sum(rates) / 2)


def test_improvement_pools_the_episodes_of_all_seeds_by_task() -> None:
    start = [random_evaluation(seed, mean=0.2) for seed in (1, 2)]
    final = [random_evaluation(seed, mean=0.5) for seed in (3, 4)]
    estimate = improvement(final, start)
    per_task = np.sum([o.successes for o in final], axis=0) / 8 - np.sum([o.successes for o in start], axis=0) / 8
    assert estimate.value == pytest.approx(per_task.mean())
    assert ends(estimate) == pytest.approx(normal_interval(per_task), abs=0.006)
    assert estimate.above_zero


def test_the_interval_of_a_ratio_is_students_over_tasks() -> None:
    amounts = np.random.default_rng(2).normal(50, 10, 40)
    estimate = ratio(amounts * 3, np.full(40, 3))
    assert ends(estimate) == pytest.approx(stats.t.interval(0.95, 39, amounts.mean(), stats.sem(amounts)))


def test_the_interval_of_a_bounded_ratio_is_students_on_the_scale_of_log_odds() -> None:
    valid, turns = np.array([9, 10, 6, 12]), np.array([10, 10, 8, 12])
    value = 37 / 40
    error = np.sqrt(4 / 3 * ((valid - value * turns) ** 2).sum()) / 40
    half = stats.t.ppf(0.975, 3) * error / (value * (1 - value))
    odds = math.log(value / (1 - value))
    expected = [1 / (1 + math.exp(-odds - sign * half)) for sign in (-1, 1)]
    assert ends(ratio(valid, turns, bounded=True)) == pytest.approx(tuple(expected))
