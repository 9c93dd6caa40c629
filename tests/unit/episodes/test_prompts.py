"""What a policy is shown: every fact that He et al. 2026, App. C lists, and only the facts change."""

from __future__ import annotations

import pytest

from verl_actfocus.envs import registry
from verl_actfocus.envs.base import EpisodeLimits
from verl_actfocus.episodes import TagSettings, format_instruction, system_message, user_message

LIMITS = EpisodeLimits(turns=5, actions_per_turn=2, actions=10, words=120)


def test_the_system_message_is_the_rules_of_the_environment() -> None:
    env = registry.make("frozenlake")
    assert system_message(env) == env.rules


def test_the_first_user_message_shows_turn_state_actions_left_format_and_word_limit_but_no_reward() -> None:
    message = user_message(1, "P_\n_G", None, 10, LIMITS)
    assert "Turn 1" in message
    assert "P_\n_G" in message
    assert "Actions left: 10" in message
    assert "<think>" in message and "</think>" in message and "<answer>" in message and "</answer>" in message
    assert "120 words" in message
    assert "Reward" not in message


@pytest.mark.parametrize(
    ("reward", "shown"), [(0.0, "0"), (-0.0, "0"), (1.0, "1"), (-0.1 + -0.1 + -0.1, "-0.3"), (10.9, "10.9")]
)
def test_from_the_second_turn_the_previous_reward_is_shown_as_a_plain_number(reward: float, shown: str) -> None:
    assert f"Reward of the last turn: {shown}\nTurn 2\n" in user_message(2, "P_", reward, 8, LIMITS)


def test_a_reward_is_required_from_the_second_turn_and_refused_on_the_first() -> None:
    with pytest.raises(ValueError, match="previous_reward"):
        user_message(2, "P_", None, 8, LIMITS)
    with pytest.raises(ValueError, match="previous_reward"):
        user_message(1, "P_", 0.0, 8, LIMITS)
    with pytest.raises(ValueError, match="turn is 0"):
        user_message(0, "P_", None, 8, LIMITS)


@pytest.mark.parametrize(("per_turn", "words"), [(1, "One action"), (2, "At most 2 actions"), (None, "Any number")])
def test_the_format_request_names_the_limit_on_actions_per_turn(per_turn: int | None, words: str) -> None:
    request = format_instruction(EpisodeLimits(turns=5, actions_per_turn=per_turn, actions=10, words=77))
    assert words in request
    assert "77 words" in request
    assert ("||" in request) == (per_turn != 1)


def test_only_facts_differ_between_two_turns() -> None:
    first = user_message(2, "P_", 0.0, 8, LIMITS).splitlines()
    second = user_message(3, "_P", 1.0, 7, LIMITS).splitlines()
    assert [line.rstrip("0123456789.P_") for line in first] == [line.rstrip("0123456789.P_") for line in second]


@pytest.mark.parametrize(
    ("tags", "line"),
    [
        (TagSettings(), "Format: <think>reasoning</think><answer>action || action</answer> and nothing else."),
        (
            TagSettings(action=("<act>", "</act>"), reasoning=("<reason>", "</reason>"), prefill=""),
            "Format: <reason>reasoning</reason><act>action || action</act> and nothing else.",
        ),
        (TagSettings(action="rest"), "Format: <think>reasoning</think>action || action and nothing else."),
    ],
)
def test_the_format_that_is_asked_for_is_that_of_the_tags(tags: TagSettings, line: str) -> None:
    assert format_instruction(LIMITS, tags).splitlines()[0] == line
    assert line in user_message(2, "P_", 0.0, 8, LIMITS, tags).splitlines()
