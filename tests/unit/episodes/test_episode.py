"""The turn protocol: what a response earns, what it executes, and how an episode ends."""

from __future__ import annotations

import pytest

from verl_actfocus.envs import registry
from verl_actfocus.envs.base import EpisodeLimits
from verl_actfocus.episodes import Episode, StopReason

from .conftest import LIMITS, BuyingEnv, ScriptedEnv, answer, begin, executed


def test_reset_hands_out_the_rules_and_the_first_state() -> None:
    messages = Episode(ScriptedEnv(), LIMITS).reset(seed=5)
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[0]["content"] == "Say go."
    assert "Turn 1\nstate 0\nActions left: 4" in messages[1]["content"]


def test_a_valid_turn_earns_the_sum_of_its_rewards_and_opens_the_next_turn() -> None:
    episode = begin()
    result = episode.respond(answer("go 2", "go 0"))
    assert (result.reward, result.valid, result.problem) == (2.0, True, None)
    assert result.actions == ["go 2", "go 0"]
    assert (len(result.actions), result.effective_actions) == (2, 1)
    assert not result.done and result.stop_reason is None
    assert result.next_message is not None
    assert result.next_message["role"] == "user"
    assert result.next_message["content"].startswith("Reward of the last turn: 2\nTurn 2\nstate 2\nActions left: 2\n")


def test_of_more_actions_than_a_turn_allows_the_first_ones_run() -> None:
    episode = begin()
    result = episode.respond(answer("go 1", "go 2", "go 4"))
    assert result.valid
    assert executed(episode) == result.actions == ["go 1", "go 2"]
    assert result.reward == 3.0


def test_without_a_limit_per_turn_only_the_budget_of_the_episode_counts() -> None:
    episode = begin(limits=EpisodeLimits(turns=3, actions_per_turn=None, actions=4, words=50))
    result = episode.respond(answer("go 1", "go 1", "go 1", "go 1", "go 1"))
    assert len(result.actions) == 4
    assert result.stop_reason is StopReason.ACTION_LIMIT


def test_success_ends_the_episode_and_later_actions_do_not_run() -> None:
    episode = begin()
    result = episode.respond(answer("win 10", "go 1"))
    assert result.stop_reason is StopReason.SUCCESS
    assert result.done and result.next_message is None and result.valid
    assert executed(episode) == ["win 10"]
    assert episode.success and episode.total_reward == 10.0


@pytest.mark.parametrize("verb", ["lose", "expire"])
def test_an_environment_that_ends_without_success_ends_the_episode_as_terminated(verb: str) -> None:
    episode = begin()
    assert episode.respond(answer(verb)).stop_reason is StopReason.TERMINATED
    assert episode.done and not episode.success


def test_the_turn_limit_counts_invalid_turns_too() -> None:
    episode = begin()
    episode.respond("x")
    assert not episode.respond(answer("go 1")).done
    result = episode.respond("x")
    assert result.stop_reason is StopReason.TURN_LIMIT
    assert result.next_message is None
    assert episode.turn_rewards == [-0.1, 1.0, -0.1]
    assert episode.total_reward == pytest.approx(0.8)


def test_the_action_limit_is_never_exceeded() -> None:
    episode = begin()
    episode.respond(answer("go 1"))
    episode.respond(answer("go 1", "go 1"))
    result = episode.respond(answer("go 1", "go 1"))
    assert result.actions == ["go 1"]
    assert result.stop_reason is StopReason.ACTION_LIMIT
    assert len(executed(episode)) == LIMITS.actions


def test_a_response_cut_by_the_length_limit_is_invalid_whatever_it_holds_and_ends_the_episode() -> None:
    episode = begin()
    result = episode.respond(answer("go 1"), cut_off_at=37)
    assert result.stop_reason is StopReason.RESPONSE_CUT
    assert not result.valid and result.reward == -0.1
    assert result.problem == "cut off at 37 tokens"
    assert executed(episode) == []


def test_the_caller_can_end_an_episode_whose_next_prompt_does_not_fit() -> None:
    episode = begin()
    episode.respond(answer("go 1"))
    episode.stop(StopReason.CONTEXT_FULL)
    assert episode.done and episode.stop_reason is StopReason.CONTEXT_FULL
    assert episode.total_reward == 1.0
    with pytest.raises(RuntimeError, match="no episode is running"):
        episode.stop(StopReason.CONTEXT_FULL)


def test_reset_forgets_the_episode_before() -> None:
    episode = begin()
    episode.respond(answer("win 3"))
    episode.reset(seed=6)
    assert not episode.done and episode.turn_rewards == [] and episode.actions_used == 0 and not episode.info


def test_what_the_environment_reports_stays_readable_after_the_end() -> None:
    episode = begin()
    episode.respond(answer("go 1"))
    episode.respond(answer("lose 2"))
    assert episode.info["note"] == "lose 2"
    assert episode.observation == "state 2"


def test_an_outcome_is_what_the_last_accepted_action_reports() -> None:
    episode = begin(BuyingEnv())
    assert episode.outcomes == {"bought": False}
    episode.respond(answer("go 1"))
    assert episode.outcomes == {"bought": False}
    episode.respond(answer("lose"))
    assert episode.outcomes == {"bought": True}
    assert begin().outcomes == {}


def test_a_purchase_is_an_outcome_of_webshop_whatever_it_earns() -> None:
    episode = Episode(registry.make("webshop"), registry.spec("webshop").limits)
    episode.reset(seed=0)
    for action in ("search[shirt]", episode.env.legal_actions, "click[buy now]"):
        if callable(action):
            action = next(link for link in action() if link.startswith("click[af"))
        assert episode.outcomes == {"purchase": False}
        episode.respond(answer(action))
    assert episode.outcomes == {"purchase": True}


def test_frozenlake_is_won_by_walking_to_the_goal_and_lost_in_a_hole() -> None:
    spec = registry.spec("frozenlake")
    ends = set()
    for seed in range(20):
        env = registry.make("frozenlake", success_rate=1.0)
        episode = Episode(env, spec.limits)
        episode.reset(seed=seed)
        holes = episode.observation.splitlines()[-1]
        while not episode.done:
            episode.respond(answer("Down", "Right"))
        assert episode.total_reward == float(episode.success)
        assert episode.actions_used <= spec.limits.actions and episode.turn <= spec.limits.turns
        if episode.stop_reason is StopReason.TERMINATED:
            assert holes != "Holes: none" and "X" in episode.observation
        ends.add(episode.stop_reason)
    assert {StopReason.SUCCESS, StopReason.ACTION_LIMIT} <= ends
