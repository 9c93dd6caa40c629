"""The rollout: append-only tokens, spans, rewards, budgets and stop reasons, with a scripted policy."""

from __future__ import annotations

import asyncio
import json
import threading
from importlib.resources import files

import pytest
import torch
from transformers import AutoTokenizer

from verl_actfocus.envs import EnvironmentSpec, EpisodeLimits, register_environment
from verl_actfocus.envs.registry import ENVIRONMENTS
from verl_actfocus.episodes.record import EpisodeRecord
from verl_actfocus.episodes.states import state_id
from verl_actfocus.integration import fields
from verl_actfocus.weighting import Span

from .counting import LIMITS, CountingEnv, ScriptedServer, play


@pytest.fixture(autouse=True)
def counting_environment(monkeypatch):
    monkeypatch.setattr("verl_actfocus.envs.registry.gymnasium.register", lambda **kwargs: None)
    register_environment(
        "counting",
        EnvironmentSpec(
            id="Test/Counting-v0",
            entry_point=f"{CountingEnv.__module__}:CountingEnv",
            limits=EpisodeLimits(**LIMITS),
            summary="",
        ),
    )
    yield
    del ENVIRONMENTS["counting"]


@pytest.fixture(autouse=True)
def reported(monkeypatch):
    """What would go to TransferQueue beside the batch."""
    reports = []

    async def report(key, reason, *, validate):
        reports.append((key, reason.value, validate))

    monkeypatch.setattr("verl_actfocus.integration.exclusions.report", report)
    return reports


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(str(files("verl_actfocus") / "models/frozenlake/tokenizer"))


RIGHT = "The goal is right.</think><answer>Right</answer>"
TWICE = "Twice.</think><answer>Right || Right</answer>"
PROSE = "Hm.</think>I go <answer>Right</answer>"


def test_every_prompt_begins_with_the_tokens_of_the_turns_before(tokenizer):
    output, server = play(tokenizer, [RIGHT, TWICE, RIGHT])
    for turn in (1, 2):
        before = server.prompts[turn - 1] + server.answers[turn - 1]
        assert server.prompts[turn][: len(before)] == before
    # What is trained on is what was sampled, in place.
    assert output.prompt_ids + output.response_ids == server.prompts[2] + server.answers[2]
    sampled = [token for answer in server.answers for token in answer]
    assert [token for token, mask in zip(output.response_ids, output.response_mask, strict=True) if mask] == sampled


def test_per_token_fields_are_in_step_and_environment_tokens_are_never_tagged(tokenizer):
    output, _ = play(tokenizer, [RIGHT, TWICE, RIGHT])
    stored = output.as_dict()
    length = len(output.response_ids)
    for name in (fields.SPANS, fields.TURN_REWARDS, "response_mask", "rollout_log_probs"):
        assert len(stored[name]) == length, name
    spans, mask = stored[fields.SPANS], stored["response_mask"].bool()
    assert (spans[~mask] == Span.NONE).all()
    # Brute force: the action tokens are those whose text stands between the answer tags.
    text = [tokenizer.decode([token]) for token, m in zip(output.response_ids, mask, strict=True) if m]
    inside, expected = False, []
    for piece in text:
        expected.append(inside and piece != "</answer>")
        inside = piece == "<answer>" or (inside and piece != "</answer>")
    assert (spans[mask] == Span.ACTION).tolist() == expected
    assert (stored["rollout_log_probs"][~mask] == 0).all()


def test_rewards_stand_on_the_last_token_of_their_turn_and_the_sum_on_the_last_token(tokenizer):
    output, server = play(tokenizer, [RIGHT, PROSE, TWICE])
    stored = output.as_dict()
    ends, position = [], len(server.prompts[0])
    for prompt, answer in zip(server.prompts, server.answers, strict=True):
        position = len(prompt) + len(answer) - 1
        ends.append(position - len(server.prompts[0]))
    rewards = stored[fields.TURN_REWARDS]
    assert [round(float(rewards[end]), 6) for end in ends] == [1.0, -0.1, 2.0]
    assert float(rewards.sum()) == pytest.approx(2.9)
    assert float(stored["rm_scores"][-1]) == pytest.approx(2.9)
    assert float(stored["rm_scores"][:-1].abs().sum()) == 0
    assert output.response_mask[-1] == 1


def test_states_stand_on_the_last_token_of_the_turn_that_begins_in_them_where_an_estimator_asks(tokenizer):
    for estimator in ("grpo", "actfocus_grpo", "actfocus_gigpo"):
        algorithm = {"adv_estimator": estimator, "actfocus": {"weighting": {"name": "uniform"}}}
        output, _ = play(tokenizer, [RIGHT, PROSE, TWICE], algorithm=algorithm if "_" in estimator else {})
        stored = output.as_dict()
        assert (fields.ANCHOR_STATES in stored) == (estimator == "actfocus_gigpo")
    states, rewards = stored[fields.ANCHOR_STATES], stored[fields.TURN_REWARDS]
    assert states.dtype == torch.int64 and states[states > 0].tolist() == states[rewards != 0].tolist()
    # The second response is no action, so the third turn begins in the state of the second.
    assert states[states > 0].tolist() == [state_id(text) for text in ("0 steps", "1 steps", "1 steps")]


def test_the_whole_record_goes_along_in_the_training_steps_whose_trajectories_are_written(tokenizer):
    every_fifth = {"folder": "somewhere", "every": 5}
    output, _ = play(tokenizer, [RIGHT, PROSE, TWICE], trajectories=every_fifth, step=10, session=3)
    record = EpisodeRecord.from_dict(json.loads(output.as_dict()[fields.EPISODE]))
    assert record.sample == 3  # among those of its prompt group
    assert [turn.text for turn in record.turns] == [RIGHT, PROSE, TWICE]
    assert [turn.observation for turn in record.turns] == ["0 steps", "1 steps", "1 steps"]
    assert record.final_observation == "3 steps"
    assert record.counts() == output.extra_fields["reward_extra_info"]
    assert len(record.messages) == 2 * 3 + 1
    others = [
        {"trajectories": every_fifth, "step": 7},
        {"trajectories": every_fifth, "step": 10, "validate": True},
        {"trajectories": {"every": 5}, "step": 10},
        {"step": 10},
    ]
    for options in others:
        output, _ = play(tokenizer, [RIGHT, PROSE, TWICE], **options)
        assert not {"episode", fields.EPISODE} & output.as_dict().keys(), options


@pytest.mark.parametrize(
    ("texts", "options", "reason"),
    [
        ([TWICE, TWICE], {}, "success"),
        ([RIGHT, RIGHT, RIGHT], {}, "turn_limit"),
        ([RIGHT, "I think and think"], {"cut": [1]}, "response_cut"),
        ([RIGHT, RIGHT, RIGHT], {"response_length": 30}, "context_full"),
    ],
)
def test_the_stop_reason_says_why_the_episode_ended(tokenizer, texts, options, reason):
    output, server = play(tokenizer, texts, **options)
    record = output.extra_fields["reward_extra_info"]
    assert record["stop_reason"] == reason
    assert record["success"] == (reason == "success")
    assert record["response_tokens"] == sum(output.response_mask)
    assert record["turns"] == len(server.prompts)
    assert len(output.response_ids) <= options.get("response_length", 500)


def test_an_invalid_turn_executes_nothing_and_the_episode_goes_on(tokenizer):
    output, _ = play(tokenizer, [PROSE, TWICE, TWICE])
    record = output.extra_fields["reward_extra_info"]
    assert (record["valid_turns"], record["turns"], record["actions"]) == (2, 3, 4)
    assert record["stop_reason"] == "success"


@pytest.mark.parametrize("what", ["hangs", "fails"])
def test_an_environment_that_cannot_be_made_is_counted_like_one_that_fails(
    tokenizer, reported, caplog, monkeypatch, what
):
    def construct(self):
        if what == "hangs":
            threading.Event().wait()
        raise OSError("no such game")

    monkeypatch.setattr(CountingEnv, "__init__", construct)
    output, server = play(tokenizer, [RIGHT])
    assert output == [] and server.prompts == [] and reported == [("u_0", "environment_error", False)]
    late = "EnvironmentTimeoutError: the environment counting could not be made: no answer within 0.5 s"
    said = {"hangs": late, "fails": "OSError: no such game"}
    assert f"excluded trajectory: counting seed 5: {said[what]}" in caplog.text


@pytest.mark.parametrize(
    ("texts", "options", "reason"),
    [
        ([RIGHT, "Oh.</think><answer>Crash</answer>"], {}, "environment_error"),
        ([RIGHT], {"stop_reason": "aborted"}, "rollout_aborted"),
        ([RIGHT], {"prompt_length": 5}, "prompt_too_long"),
    ],
)
def test_a_failure_that_is_not_the_models_leaves_no_trajectory_but_its_reason(
    tokenizer, texts, options, reason, reported, caplog
):
    output, _ = play(tokenizer, texts, **options)
    assert output == []
    assert reported == [("u_0", reason, False)]
    assert "excluded trajectory: counting seed 5" in caplog.text


def test_an_environment_that_never_returns_is_left_out_and_the_event_loop_goes_on(tokenizer, reported, caplog):
    ticks = []

    class TickingServer(ScriptedServer):
        async def generate(self, request_id, **kwargs):
            if not self.prompts:
                self.ticking = asyncio.ensure_future(self.tick())
            return await super().generate(request_id, **kwargs)

        async def tick(self):
            while True:
                ticks.append(1)
                await asyncio.sleep(0.01)

    texts = [RIGHT, "Oh.</think><answer>Hang</answer>"]
    output, _ = play(tokenizer, texts, server_class=TickingServer)
    assert output == [] and reported == [("u_0", "environment_error", False)]
    assert (
        "counting seed 5: the environment CountingEnv failed on action 'Hang' with EnvironmentTimeoutError"
        in caplog.text
    )
    assert len(ticks) > 10, "0.5 s of deadline are 50 ticks"


def test_the_token_budget_of_a_turn_is_the_smaller_of_its_own_and_what_is_left(tokenizer):
    _, server = play(tokenizer, [RIGHT, RIGHT, RIGHT], response_length=100)
    asked = [params["max_tokens"] for params in server.params]
    assert asked[0] == LIMITS["response_tokens"]
    used = len(server.prompts[-1]) - len(server.prompts[0])
    assert asked[-1] == min(LIMITS["response_tokens"], 100 - used)


def test_sampling_seeds_are_the_same_again_and_differ_between_turns(tokenizer):
    first = [params["seed"] for params in play(tokenizer, [RIGHT] * 3)[1].params]
    assert first == [params["seed"] for params in play(tokenizer, [RIGHT] * 3)[1].params]
    assert len(set(first)) == 3


def test_other_servers_get_seeds_in_full_determinism_alone(tokenizer):
    """veRL would give all requests of a server one seed then, and the trajectories of a group the same responses."""
    ours = [params["seed"] for params in play(tokenizer, [RIGHT] * 3)[1].params]
    for determined, seeds in ((True, ours), (False, [None] * 3)):
        _, server = play(tokenizer, [RIGHT] * 3, rollout={"name": "vllm", "full_determinism": determined})
        assert [params.get("seed") for params in server.params] == seeds
