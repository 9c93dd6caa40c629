"""Episodes in which something is wrong: the response, an action, the environment, or the order of the calls."""

from __future__ import annotations

from typing import Any

import pytest

from verl_actfocus.envs.base import EpisodeLimits
from verl_actfocus.episodes import Episode, StopReason

from .conftest import LIMITS, BuyingEnv, ScriptedEnv, answer, begin, executed


@pytest.mark.parametrize(
    "text", ["no tags", "a</think><answer></answer>", "a</think><answer>go 2", answer("go 2") + "!"]
)
def test_an_invalid_response_executes_nothing_and_earns_the_format_penalty(text: str) -> None:
    episode = begin()
    result = episode.respond(text)
    assert result.reward == -0.1
    assert not result.valid and result.problem
    assert result.actions == [] and executed(episode) == []
    assert result.next_message is not None
    assert "Reward of the last turn: -0.1\nTurn 2\nstate 0\nActions left: 4" in result.next_message["content"]


def test_the_format_penalty_can_be_set_but_not_be_a_bonus() -> None:
    episode = Episode(ScriptedEnv(), LIMITS, format_penalty=-0.5)
    episode.reset(seed=0)
    assert episode.respond("no tags").reward == -0.5
    with pytest.raises(ValueError, match="format_penalty"):
        Episode(ScriptedEnv(), LIMITS, format_penalty=0.1)


def test_an_answer_whose_actions_are_all_refused_is_an_invalid_turn() -> None:
    episode = begin()
    result = episode.respond(answer("jump", "fly"))
    assert not result.valid and result.problem is not None and "jump" in result.problem
    assert result.reward == -0.1, "the penalty takes the place of the environment's own reward for a refusal"
    assert result.actions == []


def test_execution_stops_at_the_first_refused_action_and_the_half_answer_is_not_paid_as_valid() -> None:
    episode = begin(limits=EpisodeLimits(turns=3, actions_per_turn=3, actions=9, words=50))
    result = episode.respond(answer("go 1", "jump", "go 5"))
    assert executed(episode) == result.actions == ["go 1"]
    assert not result.valid
    assert result.reward == pytest.approx(1.0 - 0.1)
    assert result.next_message is not None and "Actions left: 8" in result.next_message["content"]


def test_a_refused_action_beyond_the_actions_of_a_turn_is_never_tried() -> None:
    assert begin().respond(answer("go 1", "go 1", "jump")).valid


@pytest.mark.parametrize(("action", "kind"), [("raise", "KeyError"), ("nan", "ValueError"), ("silent", "KeyError")])
def test_a_broken_environment_is_recorded_and_kept_out_of_training(action: str, kind: str) -> None:
    episode = begin()
    result = episode.respond(answer("go 1", action))
    assert result.stop_reason is StopReason.ENVIRONMENT_ERROR
    assert StopReason.ENVIRONMENT_ERROR.excluded_from_training
    assert not result.valid and result.next_message is None
    assert result.reward == 1.0, "no penalty: the failure is not the model's"
    assert episode.error is not None
    assert (episode.error.type, episode.error.seed, episode.error.action) == (kind, 5, action)


def test_an_environment_that_cannot_be_reset_is_recorded_too() -> None:
    episode = Episode(ScriptedEnv(broken_reset=True), LIMITS)
    assert episode.reset(seed=9) == []
    assert episode.stop_reason is StopReason.ENVIRONMENT_ERROR
    assert episode.error is not None
    assert (episode.error.type, episode.error.message) == ("OSError", "no map on disk")
    assert (episode.error.seed, episode.error.action) == (9, None)
    with pytest.raises(RuntimeError, match="environment_error"):
        episode.respond(answer("go 1"))


def test_an_outcome_that_is_declared_and_not_reported_is_a_failure_of_the_environment() -> None:
    episode = begin(BuyingEnv())
    episode.respond(answer("win"))
    assert episode.stop_reason is StopReason.ENVIRONMENT_ERROR
    assert episode.error is not None and "info lacks ['bought']" in episode.error.message


def test_an_interrupt_is_not_taken_for_an_environment_failure() -> None:
    class Interrupted(ScriptedEnv):
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin(Interrupted()).respond(answer("go 1"))


def test_only_failures_that_are_not_the_models_are_excluded_from_training() -> None:
    assert {reason.value for reason in StopReason if reason.excluded_from_training} == {
        "environment_error",
        "prompt_too_long",
        "rollout_aborted",
    }


def test_responding_before_reset_or_after_the_end_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="has not begun"):
        Episode(ScriptedEnv(), LIMITS).respond(answer("go 1"))
    episode = begin()
    episode.respond(answer("lose"))
    with pytest.raises(RuntimeError, match="terminated"):
        episode.respond(answer("go 1"))
