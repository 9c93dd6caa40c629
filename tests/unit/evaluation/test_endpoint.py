"""A served model: the prompts of training go out as token ids, and what the server does wrong is no model's fault."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from verl_actfocus.cli.main import main
from verl_actfocus.episodes import Episode
from verl_actfocus.episodes.tokens import ChatML
from verl_actfocus.evaluation.endpoint import EndpointModel
from verl_actfocus.evaluation.records import EvaluationFolder
from verl_actfocus.evaluation.runner import run
from verl_actfocus.evaluation.server import KEY_VARIABLE
from verl_actfocus.evaluation.settings import EvaluationSettings

from .conftest import RIGHT, FakeServer

TRIES = 5


@pytest.fixture
def folder(tmp_path: Path) -> EvaluationFolder:
    return EvaluationFolder(tmp_path)


@pytest.fixture
def endpoint(server: FakeServer, model_folder: str):
    policy = EndpointModel(server.url, "tiny", model_folder, pauses=[0.0] * (TRIES - 1))
    yield policy
    policy.close()


def test_requests_hold_the_tokens_of_training_and_leave_nothing_to_the_servers_defaults(
    server: FakeServer,
    endpoint: EndpointModel,
    settings: EvaluationSettings,
    folder: EvaluationFolder,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    settings = dataclasses.replace(settings, tasks=1, samples=1, temperature=0.5)
    (record,) = run(endpoint, settings, folder, at_once=1).finished
    assert len(record.turns) == len(server.requests) > 1
    # by hand: the encoder of the Qwen family, which is compared with veRL's in tests/contract
    encoder = ChatML(tokenizer, "<think>")
    from verl_actfocus.envs import make

    episode = Episode(make(settings.environment, **settings.options), settings.limits)
    ids = encoder.first(episode.reset(0))
    for request in server.requests:
        assert request["prompt"] == ids
        assert request["model"] == "tiny" and request["return_token_ids"] is True
        assert (request["temperature"], request["top_p"], request["top_k"], request["min_p"]) == (0.5, 1.0, -1, 0.0)
        assert (request["repetition_penalty"], request["max_tokens"]) == (1.0, 64)
        assert 0 <= request["seed"] < 2**63
        message = episode.respond(RIGHT).next_message
        if message is not None:
            ids = ids + encoder.response(RIGHT)
            ids = ids + encoder.following(ids, [], message)
    assert len({request["seed"] for request in server.requests}) == len(server.requests)
    assert endpoint.notes()["encodes_again"] is False


def test_a_server_without_token_ids_gives_the_same_prompts_and_it_is_noted(
    server: FakeServer, endpoint: EndpointModel, settings: EvaluationSettings, folder: EvaluationFolder, tmp_path: Path
) -> None:
    run(endpoint, settings, folder, at_once=1)
    with_ids = [request["prompt"] for request in server.requests]
    server.requests.clear()
    server.token_ids = False
    (tmp_path / "again").mkdir()
    attempt = run(endpoint, settings, EvaluationFolder(tmp_path / "again"), at_once=1)
    assert [request["prompt"] for request in server.requests] == with_ids
    assert endpoint.notes()["encodes_again"] is True and not attempt.failures


def test_a_response_at_the_length_limit_ends_its_episode(
    server: FakeServer, endpoint: EndpointModel, settings: EvaluationSettings, folder: EvaluationFolder
) -> None:
    server.reply = "I think " * 100
    attempt = run(endpoint, settings, folder, at_once=4)
    assert {record.stop_reason for record in attempt.finished} == {"response_cut"}
    assert {record.response_tokens for record in attempt.finished} == {64}


def test_a_server_that_is_away_for_a_moment_is_asked_again(
    server: FakeServer, endpoint: EndpointModel, settings: EvaluationSettings, folder: EvaluationFolder
) -> None:
    server.script = [503, 429, 500, 502]  # TRIES - 1 failures of the first request
    attempt = run(endpoint, settings, folder, at_once=1)
    assert len(attempt.finished) == 4 and not attempt.failures
    assert len({json.dumps(request) for request in server.requests[:TRIES]}) == 1


def test_a_refused_prompt_is_a_failure_of_its_episode_alone(
    server: FakeServer, endpoint: EndpointModel, settings: EvaluationSettings, folder: EvaluationFolder
) -> None:
    server.script = [400]
    attempt = run(endpoint, settings, folder, at_once=1)
    (failed,) = attempt.failures
    assert len(attempt.finished) == 3 and attempt.lost is None
    assert failed.stop_reason == "rollout_aborted"
    assert failed.failure is not None and "400 Bad Request" in failed.failure and "no room" in failed.failure


def test_a_lost_server_ends_the_evaluation_and_the_rest_can_be_played_later(
    server: FakeServer, endpoint: EndpointModel, settings: EvaluationSettings, folder: EvaluationFolder
) -> None:
    turns = 3
    server.script = [200] * turns + [503] * 100
    server.reply = "no answer"
    attempt = run(endpoint, settings, folder, at_once=1)
    assert (len(attempt.finished), len(attempt.failures)) == (1, 1)
    assert attempt.lost is not None and "503" in attempt.lost and f"asked {TRIES} times" in attempt.lost
    assert len(server.requests) == turns + TRIES


def test_the_command_reports_what_is_missing_and_ends_with_1(
    server: FakeServer, model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["eval", "--endpoint", server.url, "--model", "tiny", "--tokenizer", model_folder]
    command += ["--profile", "cpu_frozenlake", "--episodes", "8", "--batch-size", "2", "--out", str(out)]
    server.script = [400]
    assert main(command) == 1
    printed = capsys.readouterr()
    assert "1 of 8 episodes are missing and in no figure" in printed.err
    assert "1 × rollout_aborted:" in printed.err and "400 Bad Request" in printed.err
    summary = json.loads((out / "summary.json").read_text())
    assert summary["episodes"] == {"asked": 8, "finished": 7, "failed": 1, "not_played": 0}
    assert summary["model"]["endpoint"] == f"{server.url}/v1" and summary["model"]["root"] == "/models/tiny"

    server.requests.clear()
    assert main(command) == 0
    printed = capsys.readouterr()
    assert summary["commit"] == json.loads((out / "summary.json").read_text())["commit"]
    assert 1 <= len(server.requests) <= 3  # one episode of up to three turns
    assert "success" in printed.out and "pass@4" in printed.out

    assert main([*command, "--temperature", "0"]) == 2
    assert "other settings (evaluation.temperature was 1.0, is 0.0)" in capsys.readouterr().err


def test_the_key_comes_from_the_environment_and_is_written_nowhere(
    server: FakeServer, model_folder: str, settings: EvaluationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "s3cret"
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ValueError, match=f"refuses the key .401.; put the right one into .*{KEY_VARIABLE}"):
        EndpointModel(server.url, "tiny", model_folder)
    monkeypatch.setenv(KEY_VARIABLE, "s3cret")
    policy = EndpointModel(server.url, "tiny", model_folder)
    run(policy, settings, EvaluationFolder(tmp_path), at_once=2)
    assert set(server.keys[1:]) == {"Bearer s3cret"}
    assert "s3cret" not in json.dumps([policy.identity(), policy.notes()])
    policy.close()


def test_what_is_wrong_with_the_address_or_the_name_is_said_at_once(server: FakeServer, model_folder: str) -> None:
    with pytest.raises(ValueError, match=r"the server has no model of that name; it has tiny"):
        EndpointModel(server.url, "huge", model_folder)
    with pytest.raises(ValueError, match=r"/models answers 404 .*OpenAI-compatible"):
        EndpointModel(f"{server.url}/somewhere", "tiny", model_folder)
    server.stop()
    with pytest.raises(ValueError, match=r"no server answers .*vllm serve MODEL"):
        EndpointModel(server.url, "tiny", model_folder)


def test_the_servers_context_bounds_the_episodes(
    server: FakeServer, model_folder: str, settings: EvaluationSettings, folder: EvaluationFolder
) -> None:
    server.context = 130  # the profile allows 128 + 384
    server.reply = "no answer"
    policy = EndpointModel(server.url, "tiny", model_folder)
    attempt = run(policy, settings, folder, at_once=4)
    policy.close()
    assert policy.context == 130
    assert {record.stop_reason for record in attempt.finished} == {"context_full"}
    asked = [(len(request["prompt"]), request["max_tokens"]) for request in server.requests]
    assert all(prompt + most <= 130 for prompt, most in asked)
    assert any(prompt + most == 130 for prompt, most in asked)
