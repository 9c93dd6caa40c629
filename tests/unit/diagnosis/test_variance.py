"""The estimator of where the return is decided, against simulated draws whose variances are known."""

from __future__ import annotations

import numpy as np
import pytest

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
    assert share.problem == "no interval: too few states, or too few whose futures differ"


def test_a_single_reasoning_or_action_is_refused() -> None:
    with pytest.raises(ValueError, match="1 reasonings and 3 actions: a variance needs at least 2 of each"):
        components(np.zeros((2, 1, 3, 2)))
