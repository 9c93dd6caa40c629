"""The estimator of where the return is decided, against simulated draws whose variances are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tools.interval_coverage import coverage
from verl_actfocus.diagnosis.intervals import ratio_of_means
from verl_actfocus.diagnosis.variance import components, decided


def simulated(states: int, draws: tuple[int, int, int], deviations: tuple[float, float, float]) -> np.ndarray:
    """Skewed draws in which some reasonings leave more to the action than others, and some actions more to the rest."""
    rng = np.random.default_rng(0)
    reasonings, actions, futures = draws

    def skewed(*shape: int) -> np.ndarray:
        return rng.exponential(size=(states, *shape)) - 1.0  # mean 0, variance 1

    def uneven(*shape: int) -> np.ndarray:
        """Mean square 1."""
        return np.sqrt(rng.choice([0.25, 1.75], size=(states, *shape)))

    reasoning = deviations[0] * skewed(reasonings, 1, 1)
    action = deviations[1] * skewed(reasonings, actions, 1) * uneven(reasonings, 1, 1)
    after = deviations[2] * skewed(reasonings, actions, futures) * uneven(reasonings, actions, 1)
    return reasoning + action + after


@pytest.mark.parametrize("draws", [(2, 2, 2), (5, 5, 2), (3, 4, 3)])
def test_every_term_is_estimated_without_bias(draws: tuple[int, int, int]) -> None:
    deviations = (0.5, 1.0, 2.0)
    found = components(simulated(20_000, draws, deviations))
    for (term, values), deviation in zip(found.items(), deviations, strict=True):
        error = values.std() / np.sqrt(len(values))
        assert abs(values.mean() - deviation**2) < 4 * error, term
        assert error < 0.1


def test_with_one_future_action_and_what_follows_are_one_term() -> None:
    found = components(simulated(20_000, (4, 4, 1), (0.5, 1.0, 2.0)))
    assert list(found) == ["reasoning", "action_and_after"]
    for values, expected in zip(found.values(), (0.25, 5.0), strict=True):
        assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(len(values))


def test_the_terms_are_those_of_nested_loops() -> None:
    returns = np.random.default_rng(1).normal(size=(1, 3, 4, 2))
    after = np.mean([np.var(returns[0, m, k], ddof=1) for m in range(3) for k in range(4)])
    of_actions = [np.var([returns[0, m, k].mean() for k in range(4)], ddof=1) for m in range(3)]
    action = np.mean(of_actions) - after / 2
    reasoning = np.var([returns[0, m].mean() for m in range(3)], ddof=1) - np.mean(of_actions) / 4
    assert [float(value[0]) for value in components(returns).values()] == pytest.approx([reasoning, action, after])


def test_intervals_hold_the_true_share_about_as_often_as_they_say() -> None:
    held = 0
    draws = simulated(200 * 40, (4, 4, 2), (0.7, 1.0, 1.2)).reshape(200, 40, 4, 4, 2)
    truth = 1.0 / (0.49 + 1.0 + 1.44)
    for returns in draws[:60]:
        low, high = decided(returns).shares["action"].interval or (2.0, 2.0)
        held += low <= truth <= high
    assert held >= 50  # 57 expected; 50 or fewer have a probability of 0.3 % at 95 %


def test_an_estimate_below_zero_is_reported_as_it_is() -> None:
    returns = np.array([[0.0, 1.0], [1.0, 0.0]]).reshape(1, 2, 2, 1).repeat(3, axis=0)
    found = decided(returns)
    assert found.shares["reasoning"].value == pytest.approx(-1.0)  # the reasonings' means agree more than by chance
    assert found.shares["action_and_after"].value == pytest.approx(2.0)


def test_where_all_futures_end_alike_the_answer_is_a_sentence() -> None:
    found = decided(np.ones((5, 2, 2, 2)))
    assert {share.value for share in found.shares.values()} == {None}
    assert found.shares["action"].problem == "nothing is decided here: in every state all futures ended alike"
    assert found.ratio is not None and found.ratio.value is None


def test_two_states_give_shares_without_an_interval() -> None:
    share = decided(np.random.default_rng(0).normal(size=(2, 3, 3, 2))).shares["after"]
    assert share.value is not None and share.interval is None
    assert share.problem == (
        "no interval: in 2 of 2 states returns differ; an interval needs 20 states, and 10 in which they differ"
    )


@pytest.mark.parametrize(("states", "differing", "given"), [(19, 19, False), (20, 9, False), (20, 10, True)])
def test_an_interval_needs_states_enough_and_enough_in_which_returns_differ(
    states: int, differing: int, given: bool
) -> None:
    returns = np.random.default_rng(0).normal(size=(states, 3, 3, 2))
    returns[differing:] = 1.0
    found = decided(returns)
    assert (found.states, found.differing) == (states, differing)
    assert (found.shares["after"].interval is not None) is given


def test_rounding_decides_nothing() -> None:
    """Sums of the same rewards in another order, and of float32, as they are saved."""
    rng = np.random.default_rng(0)
    returns = rng.choice([-0.2, -0.20000000000000007, float(np.float32(-0.2))], size=(30, 3, 3, 2))
    found = decided(returns)
    assert found.differing == 0 and found.variance == 0 and found.shares["action"].value is None
    returns[0, :, 1] = 1.0
    found = decided(returns)
    assert found.differing == 1 and found.shares["action"].value == pytest.approx(1.5, abs=1e-6)


def test_the_interval_of_a_ratio_holds_what_students_t_does_not_tell_from_it() -> None:
    rng = np.random.default_rng(0)
    whole = rng.exponential(size=25)
    part = 0.3 * whole + rng.normal(scale=0.1, size=25)
    ends = ratio_of_means(part, whole, informative=25)
    assert ends is not None and ends[0] < part.mean() / whole.mean() < ends[1]
    for end in ends:
        assert stats.ttest_1samp(part - end * whole, 0).pvalue == pytest.approx(0.05)
    assert ratio_of_means(part, whole - whole.mean() + 0.01, informative=25) is None
    assert ratio_of_means(whole, whole, informative=25) == pytest.approx((1, 1))


@pytest.mark.parametrize(
    ("case", "states"),
    [
        ("success open in nearly all states", 20),
        ("base rates Beta(0.1, 0.5)", 40),
        ("base rates Beta(0.1, 1.5)", 40),
        ("15 % of states decided by the action", 40),
        ("10 % of states decided by the action", 40),
    ],
)
def test_where_few_states_decide_intervals_hold_the_true_shares_as_often_as_they_say(case: str, states: int) -> None:
    """A percentile bootstrap over states holds some of them in 84 to 92 %."""
    often, held = coverage(case, states, 400)
    assert often > 0.5
    # A coverage of 95 % falls below by chance once in a thousand.
    assert min(held.values()) > 0.91, held


def test_a_single_reasoning_or_action_is_refused() -> None:
    with pytest.raises(ValueError, match="1 reasonings and 3 actions: a variance needs at least 2 of each"):
        components(np.zeros((2, 1, 3, 2)))
