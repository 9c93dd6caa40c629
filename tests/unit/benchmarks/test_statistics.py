"""Medians, spreads and ratios of what was measured in rounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from verl_actfocus.benchmarks.statistics import Spread, ratio_of_medians


def test_a_spread_has_median_least_and_quartiles():
    spread = Spread.of([5.0, 1.0, 4.0, 2.0, 3.0])
    assert (spread.count, spread.median, spread.least, spread.quartiles) == (5, 3.0, 1.0, (2.0, 4.0))


def test_nothing_measured_has_no_median():
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])


def test_the_ratio_is_that_of_the_medians_of_all_values():
    ratio = ratio_of_medians([[3.0, 9.0], [6.0]], [[1.0, 2.0], [4.0]])
    assert ratio.value == 6.0 / 2.0


def test_the_interval_is_scipys_paired_percentile_bootstrap_over_rounds():
    generator = np.random.default_rng(1)
    first = generator.normal(10, 1, 12)
    second = first * 1.1 + generator.normal(0, 0.2, 12)
    ratio = ratio_of_medians([[value] for value in second], [[value] for value in first])
    reference = stats.bootstrap(
        (second, first),
        lambda b, a, axis=-1: np.median(b, axis=axis) / np.median(a, axis=axis),
        paired=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert ratio.interval == pytest.approx((reference.low, reference.high), abs=0.004)


def test_what_slows_a_whole_round_down_leaves_the_ratio_as_it_is():
    slowdowns = [1.0, 5.0, 2.0, 1.5]
    ratio = ratio_of_medians([[1.2 * s] for s in slowdowns], [[s] for s in slowdowns])
    assert ratio.value == pytest.approx(1.2)
    assert ratio.interval == pytest.approx((1.2, 1.2))


def test_a_single_round_has_no_interval():
    ratio = ratio_of_medians([[2.0, 2.0]], [[1.0]])
    assert ratio.interval is None
    assert str(ratio) == "2.00"


@pytest.mark.parametrize(("second", "first"), [([], []), ([[1.0]], [[1.0], [2.0]]), ([[]], [[1.0]])])
def test_rounds_that_are_missing_are_refused(second, first):
    with pytest.raises(ValueError, match="a ratio needs the same rounds of both"):
        ratio_of_medians(second, first)
