"""Figures of an evaluation, against brute force and against other libraries."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from verl_actfocus.episodes.record import EpisodeRecord, TurnRecord
from verl_actfocus.evaluation.figures import figures, pass_at_k, stop_reasons


def turn(tokens: int, valid: bool = True, named: int = 1) -> TurnRecord:
    return TurnRecord(
        text="",
        parsed=["go"] * named,
        executed=[],
        valid=valid,
        problem=None,
        reward=0.0,
        effective_actions=0,
        tokens=tokens,
        reasoning_tokens=0,
        action_tokens=0,
        observation="",
    )


def episode(task: int, sample: int, success: bool, *turns: TurnRecord, reward: float = 0.0, **outcomes: bool):
    reason = "success" if success else "turn_limit"
    return EpisodeRecord(
        task=task,
        sample=sample,
        success=success,
        reward=reward,
        stop_reason=reason,
        outcomes=outcomes,
        turns=list(turns),
    )


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_pass_at_k_is_the_share_of_choices_that_hold_a_success(n: int) -> None:
    for k in range(1, n + 1):
        for solved in range(n + 1):
            outcomes = [1] * solved + [0] * (n - solved)
            choices = list(combinations(outcomes, k))
            expected = sum(map(any, choices)) / len(choices)
            (found,) = pass_at_k(np.array([solved]), np.array([n]), k)
            assert found == pytest.approx(expected)


def test_pass_at_k_is_refused_for_more_tries_than_a_task_has_episodes() -> None:
    with pytest.raises(ValueError, match=r"pass@4 needs at least 4 episodes of every task; one has 3"):
        pass_at_k(np.array([1, 1]), np.array([3, 4]), 4)


def test_every_figure_is_what_counting_by_hand_gives() -> None:
    records = [
        episode(0, 0, True, turn(10), turn(20, valid=False, named=0), reward=0.9, purchase=True),
        episode(0, 1, False, turn(30), reward=0.0, purchase=True),
        episode(1, 0, False, turn(40, valid=False), reward=-0.1, purchase=False),
        episode(1, 1, False, turn(10), turn(10), turn(60), reward=0.0, purchase=False),
    ]
    values = {figure.name: figure.estimate.value for figure in figures(records)}
    assert values == pytest.approx(
        {
            "success": 1 / 4,
            "pass@1": 1 / 4,
            "pass@2": 1 / 2,
            "purchase": 2 / 4,
            "well_formed_turn_rate": 6 / 7,
            "valid_turn_rate": 5 / 7,
            "reward": 0.8 / 4,
            "turns": 7 / 4,
            "response_tokens_per_turn": 180 / 7,
            "response_tokens": 180 / 4,
        }
    )
    assert stop_reasons(records) == {"turn_limit": 3, "success": 1}


def test_pass_at_k_goes_up_to_the_fewest_episodes_of_a_task() -> None:
    records = [episode(task, sample, False, turn(1)) for task in range(3) for sample in range(9)][:-4]
    names = [figure.name for figure in figures(records) if figure.name.startswith("pass@")]
    assert names == ["pass@1", "pass@2", "pass@4"]


def test_intervals_are_those_of_a_mean_over_tasks_and_not_over_episodes() -> None:
    rng = np.random.default_rng(1)
    # episodes of a task are all alike: 8 of them say no more than one
    level = {task: float(rng.normal(50, 10)) for task in range(60)}
    records = [episode(task, n, task % 2 == 0, turn(round(level[task]))) for task in level for n in range(8)]
    found = {figure.name: figure.estimate for figure in figures(records)}
    means = np.array([round(value) for value in level.values()])
    expected = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
    assert found["response_tokens"].value == pytest.approx(means.mean())
    assert found["response_tokens"].interval == pytest.approx(expected, abs=0.5)
    exact = stats.binomtest(30, 60).proportion_ci(0.95, method="wilson")
    assert found["pass@8"].interval == pytest.approx((exact.low, exact.high), abs=0.02)


def test_where_all_tasks_agree_only_shares_have_an_interval() -> None:
    records = [episode(task, 0, True, turn(7)) for task in range(20)]
    found = {figure.name: figure.estimate for figure in figures(records)}
    assert found["response_tokens"].interval is None
    assert found["response_tokens"].covers == "no interval: all 20 tasks gave the same value"
    assert found["success"].interval == pytest.approx((stats.beta.ppf(0.025, 20.5, 0.5), 1.0), abs=1e-4)
    assert found["valid_turn_rate"].interval == found["success"].interval


def test_the_share_of_valid_turns_is_lopsided_near_its_end() -> None:
    records = [episode(task, n, True, turn(1, valid=task > 0 or n > 0)) for task in range(30) for n in range(4)]
    estimate = {figure.name: figure.estimate for figure in figures(records)}["valid_turn_rate"]
    low, high = estimate.interval or (0.0, 0.0)
    assert estimate.value == pytest.approx(119 / 120)
    assert high < 1 and estimate.value - low > 3 * (high - estimate.value)
