"""Statistics over training runs are those of scipy, of a textbook's example, or counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from verl_actfocus.experiments.results.run_statistics import (
    difference_of_means,
    holm,
    interquartile_mean,
    paired_p_value,
    probability_of_improvement,
)


def test_p_values_of_paired_differences_are_those_of_the_paired_t_test() -> None:
    after, before = np.array([0.6, 0.7, 0.65, 0.8]), np.array([0.5, 0.72, 0.6, 0.6])
    assert paired_p_value(list(after - before)) == pytest.approx(stats.ttest_rel(after, before).pvalue)
    assert paired_p_value([0.1]) is None
    # Equal but for rounding.
    assert len({0.7 - 0.6, 0.8 - 0.7, 0.5 - 0.4}) > 1 and paired_p_value([0.7 - 0.6, 0.8 - 0.7, 0.5 - 0.4]) is None


def test_holms_correction_multiplies_the_smallest_by_their_number_and_never_falls() -> None:
    # By hand: sorted 0.01, 0.02, 0.022, 0.5 times 4, 3, 2, 1.
    assert holm([0.02, 0.5, None, 0.01, 0.022], 4) == [pytest.approx(0.06), 0.5, None, 0.04, pytest.approx(0.06)]
    assert holm([0.4, 0.5], 2) == [0.8, 0.8] and holm([0.9, 0.8], 2) == [1.0, 1.0] and holm([], 3) == []
    # What was declared and not made counts.
    assert holm([0.01, None], 5) == [0.05, None]


def test_holms_correction_keeps_the_family_wise_error() -> None:
    random = np.random.default_rng(0)
    p_values = random.uniform(size=(4000, 3))
    # Two more hypotheses are plainly false. Bonferroni's correction by five would be wrong in 3.0 % of cases.
    wrong = np.mean([min(holm([0.0, 0.0, *row], 5)[2:]) < 0.05 for row in p_values])
    assert wrong == pytest.approx(1 - (1 - 0.05 / 3) ** 3, abs=0.012)  # three and a half standard errors


def test_an_interquartile_mean_leaves_out_a_quarter_of_all_scores_at_each_end() -> None:
    estimate = interquartile_mean([np.array([0.1, 0.9, 0.3, 0.4]), np.array([0.5, 0.2, 0.0, 1.0])])
    assert estimate.value == pytest.approx((0.2 + 0.3 + 0.4 + 0.5) / 4)
    assert estimate.interval is not None and estimate.interval[0] < estimate.value < estimate.interval[1]


def test_the_probability_of_improvement_counts_pairs_within_environments() -> None:
    second, first = [np.array([0.9, 0.5]), np.array([0.1, 0.2])], [np.array([0.5, 0.6, 0.7]), np.array([0.3, 0.0])]
    # 3 of 3 and a tie of 3; 1 of 2 and 1 of 2. An environment's own level counts for nothing.
    assert probability_of_improvement(second, first).value == pytest.approx(((3 + 0.5) / 6 + 2 / 4) / 2)
    swapped = probability_of_improvement(first, second)
    assert swapped.value == pytest.approx(1 - probability_of_improvement(second, first).value)


def test_the_bootstraps_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        samples = [random.normal(shift, 1, size=(2, 10)) for shift in (0.0, 3.0)]
        interval = probability_of_improvement([s[0] for s in samples], [s[1] for s in samples]).interval
        assert interval is not None
        held += interval[0] <= 0.5 <= interval[1]
    assert 0.86 < held / 200 < 0.99  # percentile intervals of ten runs are a little short


def test_resamples_stay_within_their_environment() -> None:
    level = [np.array([0.1, 0.1]), np.array([0.9, 0.9])]
    assert interquartile_mean(level).interval == (pytest.approx(0.5), pytest.approx(0.5))


def test_one_run_admits_no_interval() -> None:
    estimate = interquartile_mean([np.array([0.1]), np.array([0.2, 0.4])])
    assert estimate.interval is None and "one seed" in estimate.covers


def test_a_difference_of_differences_is_welchs_test() -> None:
    second, first = [0.1, 0.14, 0.05, 0.2], [0.0, -0.1, 0.02]
    estimate, p_value = difference_of_means(second, first)
    test = stats.ttest_ind(second, first, equal_var=False)
    assert p_value == pytest.approx(test.pvalue) and estimate.value == pytest.approx(np.mean(second) - np.mean(first))
    assert estimate.interval == pytest.approx((test.confidence_interval().low, test.confidence_interval().high))
    assert difference_of_means([0.1], first)[1] is None and difference_of_means([0.1, 0.1], [0.2, 0.2])[1] is None
