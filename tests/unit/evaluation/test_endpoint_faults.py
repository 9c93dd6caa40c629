"""A server that hangs, refuses or answers nonsense costs a set time and counted episodes, and is named."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from verl_actfocus.evaluation.endpoint import EndpointModel
from verl_actfocus.evaluation.records import EvaluationFolder
from verl_actfocus.evaluation.runner import Attempt, run
from verl_actfocus.evaluation.settings import EvaluationSettings

from .conftest import FakeServer

Play = Callable[..., Attempt]


@pytest.fixture
def play(server: FakeServer, model_folder: str, settings: EvaluationSettings, tmp_path: Path) -> Play:
    """Plays four episodes of the server's model, or as many as are asked for."""

    def played(*, episodes: int = 4, at_once: int = 2, **arguments: Any) -> Attempt:
        policy = EndpointModel(server.url, "tiny", model_folder, **{"pauses": [0.0], "deadline": 20.0, **arguments})
        try:
            asked = dataclasses.replace(settings, tasks=episodes // 2, samples=2)
            return run(policy, asked, EvaluationFolder(tmp_path), at_once=at_once)
        finally:
            policy.close()

    return played


def choice(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    """Changes the response of an answer."""
    return lambda answer: {**answer, "choices": [{**answer["choices"][0], **fields}]}


# ---- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["silent", "dripping"])
def test_a_server_that_hangs_holds_the_evaluation_for_one_deadline(server: FakeServer, play: Play, how: str) -> None:
    server.hang = lambda number: how
    began = time.monotonic()
    attempt = play(episodes=20, deadline=0.5, pauses=[0.0] * 4)
    assert time.monotonic() - began < 5
    assert attempt.lost is not None
    assert f"{server.url}/v1 has not answered a request in full within 0.5 s" in attempt.lost
    assert "--timeout" in attempt.lost
    assert (len(attempt.finished), len(attempt.failures)) == (0, 2)  # those under way; no other was begun


def test_one_request_that_hangs_costs_its_episode_alone(server: FakeServer, play: Play) -> None:
    server.hang = lambda number: "silent" if number == 1 else None
    attempt = play(deadline=3.0)
    assert (len(attempt.finished), len(attempt.failures), attempt.lost) == (3, 1, None)


@pytest.mark.parametrize("how", ["silent", "dripping"])
def test_a_server_that_hangs_at_the_first_request_is_named_before_an_episode_is_begun(
    server: FakeServer, model_folder: str, how: str
) -> None:
    server.probed, server.hang = True, lambda number: how
    with pytest.raises(ValueError, match=r"--endpoint: a first request, .*has not answered a request in full"):
        EndpointModel(server.url, "tiny", model_folder, deadline=0.5)
    assert len(server.probes) == 1


@pytest.mark.parametrize("as_date", [False, True])
def test_a_server_is_asked_again_when_it_wants_to_be(server: FakeServer, play: Play, as_date: bool) -> None:
    server.script = [429]
    # a date has whole seconds: two of them are one at least
    server.headers = {"Retry-After": formatdate(time.time() + 2, usegmt=True) if as_date else "1"}
    began = time.monotonic()
    attempt = play(episodes=2, at_once=1)
    assert len(attempt.finished) == 2 and time.monotonic() - began >= 1


def test_a_server_that_wants_to_be_asked_after_the_deadline_is_not_waited_for(server: FakeServer, play: Play) -> None:
    server.script, server.headers = [503] * 100, {"Retry-After": "3600"}
    began = time.monotonic()
    attempt = play()
    assert time.monotonic() - began < 5
    assert attempt.lost is not None and "503" in attempt.lost and "due in 3600 s" in attempt.lost


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "Thu, 99 Foo 2000", ""])
def test_a_retry_after_that_is_none_is_passed_over(server: FakeServer, play: Play, value: str) -> None:
    server.script, server.headers = [429], {"Retry-After": value}
    assert len(play().finished) == 4


# ---- what the server says -----------------------------------------------------------------------------------------

DEEP = b'{"choices": [{"text": "a", "finish_reason": "stop"}], "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (choice(text=None), r"choices\.0\.text: Input should be a valid string"),
        (choice(text=["a"]), r"choices\.0\.text"),
        (choice(finish_reason=3), r"choices\.0\.finish_reason"),
        (choice(token_ids="abc"), r"choices\.0\.token_ids"),
        (choice(token_ids=[1, None]), r"choices\.0\.token_ids\.1"),
        (choice(token_ids=[1.5]), r"choices\.0\.token_ids\.0"),
        (choice(token_ids=[True]), r"choices\.0\.token_ids\.0"),
        (choice(token_ids=[-1]), r"choices\.0\.token_ids\.0"),
        (choice(token_ids=[2**63]), r"choices\.0\.token_ids\.0"),
        (choice(text="\ud83d"), "Invalid JSON"),
        (lambda answer: {"choices": []}, "choices: List should have at least 1 item"),
        (lambda answer: {"choices": None}, "choices: Input should be a valid array"),
        (lambda answer: [], "Input should be an object"),
        (lambda answer: DEEP, "recursion limit"),
        (lambda answer: b"\xff\xfe", "Invalid JSON"),
        (lambda answer: b"", "Invalid JSON"),
        (lambda answer: b"<html>", "Invalid JSON"),
        (choice(token_ids=list(range(5)) * 20), "returned 100 tokens, and 64 were the most that it was asked for"),
        (choice(text="", token_ids=[], finish_reason="length"), "a response without a token"),
        (choice(token_ids=[5], finish_reason="abort"), "for the reason 'abort'"),
        (choice(token_ids=[5], finish_reason=None), "for the reason None"),
    ],
)
def test_an_answer_that_is_no_response_is_the_servers_fault(
    server: FakeServer, play: Play, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    server.change = change
    attempt = play()
    assert not attempt.finished and {one.stop_reason for one in attempt.failures} == {"rollout_aborted"}
    for record in attempt.failures:
        assert record.failure is not None and f"{server.url}/v1" in record.failure
        assert re.search(message, record.failure)


@pytest.mark.parametrize("reason", ["stop", "eos_token", "stop_sequence", "EOS", "end_turn"])
@pytest.mark.parametrize("token_ids", [True, False])
def test_every_servers_word_for_the_end_of_a_turn_is_understood(
    server: FakeServer, play: Play, reason: str, token_ids: bool
) -> None:
    server.token_ids = token_ids
    server.change = choice(finish_reason=reason)
    attempt = play()
    assert len(attempt.finished) == 4
    assert all(turn.valid for record in attempt.finished for turn in record.turns)


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_LENGTH", None])
def test_every_servers_word_for_the_length_limit_is_understood(
    server: FakeServer, play: Play, reason: str | None
) -> None:
    server.reply = "I think " * 100
    server.change = choice(finish_reason=reason)
    assert {record.stop_reason for record in play().finished} == {"response_cut"}


def test_more_tokens_than_asked_for_are_found_by_the_servers_own_count_too(server: FakeServer, play: Play) -> None:
    server.token_ids = False
    server.change = lambda answer: {**answer, "usage": {"completion_tokens": 65}}
    attempt = play()
    assert not attempt.finished and "returned 65 tokens, and 64" in str(attempt.failures[0].failure)
    server.change = lambda answer: {**answer, "usage": {"completion_tokens": 64}}
    assert len(play().finished) == 4


def test_a_server_that_refuses_the_fields_is_asked_once(server: FakeServer, model_folder: str) -> None:
    server.probed, server.script = True, [422]
    server.change = lambda answer: {"error": "extra fields not permitted: top_k"}
    with pytest.raises(ValueError, match=r"first request, for one token, failed: .*422 .*not permitted.*vllm serve"):
        EndpointModel(server.url, "tiny", model_folder)
    assert (len(server.probes), len(server.requests)) == (1, 0)


def test_the_first_request_asks_for_all_that_later_ones_ask_for(server: FakeServer, play: Play) -> None:
    play()
    assert len(server.probes) == 1 and server.probes[0]["max_tokens"] == 1
    assert {tuple(request) for request in server.requests} == {tuple(server.probes[0])}  # names of the fields


def test_the_evaluation_gives_up_when_one_answer_after_the_other_is_useless(server: FakeServer, play: Play) -> None:
    server.script = [400] * 100
    attempt = play(episodes=40)
    assert attempt.lost is not None and "400 Bad Request: " in attempt.lost
    # An episode that is begun while the last answer arrives fails without a request of its own.
    assert not attempt.finished and 8 <= len(server.requests) <= len(attempt.failures) < 12


@pytest.mark.parametrize(
    "models",
    [
        {"data": "x"},
        {"data": [{"id": "tiny", "max_model_len": "long"}]},
        {"data": [{"id": "tiny", "max_model_len": 0}]},
    ],
)
def test_a_list_of_models_that_is_none_is_named(server: FakeServer, model_folder: str, models: dict[str, Any]) -> None:
    server.models = models
    with pytest.raises(ValueError, match=r"answers something else than a list of models \(data.*OpenAI-compatible"):
        EndpointModel(server.url, "tiny", model_folder)


# ---- ends of turn -------------------------------------------------------------------------------------------------


def test_tags_that_are_special_tokens_come_back_in_the_text(server: FakeServer, play: Play) -> None:
    play()
    assert {request["skip_special_tokens"] for request in server.requests} == {False}


def test_the_server_is_told_what_ends_a_turn(server: FakeServer, play: Play) -> None:
    play()
    assert {tuple(request["stop_token_ids"]) for request in server.requests} == {(server.end,)}


def test_a_response_of_exactly_the_limit_that_ends_its_turn_is_whole(
    server: FakeServer, play: Play, settings: EvaluationSettings, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Some servers say `length` when limit and end of turn fall together."""
    filler = tokenizer.encode("I go right.", add_special_tokens=False)
    closing = tokenizer.encode("</think><answer>Right</answer>", add_special_tokens=False)
    limit = settings.limits.response_tokens
    ids = [*(filler * limit)[: limit - len(closing) - 1], *closing, server.end]
    assert len(ids) == limit
    server.change = choice(token_ids=ids, finish_reason="length")
    attempt = play()
    assert len(attempt.finished) == 4
    assert all(record.turns[0].valid for record in attempt.finished)


def test_a_tokenizer_without_eos_takes_the_end_of_turn_from_the_template(
    server: FakeServer, play: Play, model_folder: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("without-eos")
    for file in Path(model_folder).iterdir():
        (folder / file.name).write_text(file.read_text())
    (folder / "generation_config.json").unlink()
    described = json.loads((folder / "tokenizer_config.json").read_text())
    described["eos_token"] = None
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    server.token_ids = False  # so that the end of turn has to be put there
    policy = EndpointModel(server.url, "tiny", str(folder))
    assert policy.tokenizer.eos_token_id is None
    policy.close()
    assert server.probes[-1]["stop_token_ids"] == [server.end]


def test_without_generation_settings_the_end_is_also_what_the_models_configuration_names(
    server: FakeServer, model_folder: str, tmp_path: Path
) -> None:
    for file in Path(model_folder).iterdir():
        if file.name != "generation_config.json":
            (tmp_path / file.name).write_text(file.read_text())
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**described, "eos_token_id": 5}))
    EndpointModel(server.url, "tiny", str(tmp_path)).close()
    assert server.probes[-1]["stop_token_ids"] == sorted([5, server.end])
