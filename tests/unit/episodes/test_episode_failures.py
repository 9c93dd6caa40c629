"""Episodes in which something is wrong: the response, an action, the environment, or the order of the calls."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import numpy as np
import pytest

from verl_actfocus.envs.base import EpisodeLimits, step_info
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


class Answering(ScriptedEnv):
    """Answers every action with the same observation, reward and success."""

    def __init__(self, observation: Any = "state", reward: Any = 1.0, success: Any = False) -> None:
        super().__init__()
        self.observation, self.reward, self.success = observation, reward, success

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return self.observation, self.reward, False, False, step_info(valid=True, effective=True, success=self.success)


@pytest.mark.parametrize(
    ("answers", "kind", "message"),
    [
        ({"observation": b"state"}, "TypeError", "observation is bytes"),
        ({"observation": None}, "TypeError", "observation is NoneType"),
        ({"observation": "\ud800"}, "UnicodeEncodeError", "surrogates not allowed"),
        ({"reward": "much"}, "ValueError", "could not convert"),
        ({"reward": 1e308}, "ValueError", "not a finite float32"),
        ({"success": "no"}, "TypeError", r"info\['success'\] is 'no': it must be True or False"),
        ({"success": 1}, "TypeError", "must be True or False"),
    ],
)
def test_an_answer_of_another_type_is_a_failure_of_the_environment(
    answers: dict[str, Any], kind: str, message: str
) -> None:
    episode = begin(Answering(**answers))
    episode.respond(answer("go"))
    assert episode.stop_reason is StopReason.ENVIRONMENT_ERROR and episode.error is not None
    assert episode.error.type == kind and re.search(message, episode.error.message)


def test_numpy_booleans_and_numbers_are_booleans_and_numbers() -> None:
    episode = begin(Answering(reward=np.float32(2.0), success=np.True_))
    assert episode.respond(answer("go")).reward == 2.0
    assert episode.stop_reason is StopReason.SUCCESS


def test_rewards_without_a_sum_in_float32_are_a_failure_of_the_environment() -> None:
    episode = begin(Answering(reward=3e38))
    episode.respond(answer("go"))
    assert episode.error is None
    episode.respond(answer("go"))
    assert episode.error is not None and "the rewards' sum is not a finite float32" in episode.error.message
    assert math.isfinite(episode.total_reward)


@pytest.mark.parametrize("observation", [b"state", None])
def test_a_reset_without_text_is_a_failure_of_the_environment(observation: Any) -> None:
    class Wordless(ScriptedEnv):
        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
            return observation, {}

    episode = Episode(Wordless(), LIMITS)
    assert episode.reset(seed=9) == []
    assert episode.error is not None and "Wordless.reset: the observation is" in episode.error.message


def test_an_environment_that_wants_to_end_the_process_ends_its_episode() -> None:
    class Leaving(ScriptedEnv):
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            sys.exit("no licence")

    episode = begin(Leaving())
    episode.respond(answer("go"))
    assert episode.error is not None and episode.error.message == "it raised SystemExit(no licence)"


def test_an_environment_that_cannot_be_closed_has_failed() -> None:
    class Open(ScriptedEnv):
        def close(self) -> None:
            raise OSError("busy")

    episode = begin(Open())
    episode.respond(answer("lose"))
    episode.close()
    assert episode.stop_reason is StopReason.ENVIRONMENT_ERROR
    assert str(episode.error) == "the environment Open failed on close with OSError: busy"


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
