"""Successes are counted by task, and their standard error knows that episodes of one task are alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from verl_actfocus.episodes.clusters import Outcomes, on_common_tasks, ratio_standard_error


def test_evaluations_on_other_tasks_cannot_be_compared() -> None:
    first = Outcomes.of([(0, True), (1, False)])
    other = Outcomes.of([(1, True), (2, False)])
    with pytest.raises(ValueError, match=r"different tasks.*1 of them shared"):
        on_common_tasks([first, other])


def test_tasks_that_excluded_episodes_took_with_them_are_left_out_of_all_evaluations() -> None:
    whole = Outcomes.of([(task, task % 2 == 0) for task in range(20)])
    one_missing = Outcomes.of([(task, True) for task in range(20) if task != 3])
    two_missing = Outcomes.of([(task, False) for task in range(20) if task not in (3, 7)])
    common = on_common_tasks([whole, one_missing, two_missing])
    kept = [task for task in range(20) if task not in (3, 7)]
    assert [one.tasks.tolist() for one in common] == [kept] * 3
    assert common[0].successes.tolist() == [int(task % 2 == 0) for task in kept]
    assert common[1].rate == 1 and common[2].rate == 0
    lacking = [Outcomes.of([(task, True) for task in range(20) if task // 2 != gap]) for gap in range(10)]
    with pytest.raises(ValueError, match="10 evaluations of 20 tasks have none in common"):
        on_common_tasks(lacking)
    # More than a tenth: a run would have stopped.
    with pytest.raises(ValueError, match=r"17 tasks from seed 3 on and 20 from seed 0 on, 17 of them shared"):
        on_common_tasks([whole, Outcomes.of([(task, True) for task in range(3, 20)])])


def test_pooling_adds_the_episodes_of_each_task() -> None:
    pooled = Outcomes.pooled([Outcomes.of([(0, True), (1, False)]), Outcomes.of([(0, True), (1, True), (1, True)])])
    np.testing.assert_array_equal(pooled.successes, [2, 2])
    np.testing.assert_array_equal(pooled.episodes, [2, 3])


def test_with_equal_tasks_the_standard_error_is_that_of_the_mean_of_task_rates() -> None:
    successes = np.array([4, 0, 2, 1, 4])
    outcomes = Outcomes(np.arange(5), successes, np.full(5, 4))
    assert outcomes.standard_error == pytest.approx(stats.sem(successes / 4))


def test_the_standard_error_of_a_ratio_is_how_far_ratios_of_repeated_samples_scatter() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 6, (4000, 80))
    amounts = rng.binomial(counts, rng.beta(1, 2, counts.shape))
    scatter = np.std(amounts.sum(axis=1) / counts.sum(axis=1))
    errors = [ratio_standard_error(a, c) for a, c in zip(amounts, counts, strict=True)]
    assert np.mean(errors) == pytest.approx(scatter, rel=0.03)


def test_one_task_has_no_standard_error() -> None:
    assert Outcomes.of([(7, True), (7, False)]).standard_error is None
