"""Playing an evaluation: what is kept, what is continued, and what counts against nobody."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from verl_actfocus.cli.main import main
from verl_actfocus.envs import TextEnv
from verl_actfocus.episodes import Episode
from verl_actfocus.episodes.tokens import Lengths
from verl_actfocus.evaluation.policy import Answer
from verl_actfocus.evaluation.records import EvaluationFolder
from verl_actfocus.evaluation.runner import run
from verl_actfocus.evaluation.settings import EvaluationSettings, paper_settings
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.trajectories import read_trajectories

from ...trajectories import episode
from .conftest import RIGHT, ScriptedPolicy

PROSE = "Hm.</think>I go <answer>Right</answer>"


def played_by_hand(settings: EvaluationSettings, task: int, text: str) -> tuple[Episode, list[dict[str, str]]]:
    """The same episode through the turn protocol alone, and its conversation."""
    from verl_actfocus.envs import make

    episode = Episode(make(settings.environment, **settings.options), settings.limits)
    messages = episode.reset(task)
    while not episode.done:
        result = episode.respond(text)
        messages.append({"role": "assistant", "content": f"<think>{text}"})
        if result.next_message is not None:
            messages.append(result.next_message)
    return episode, messages


def test_every_task_is_played_as_often_as_asked_and_recorded_as_the_model_saw_it(
    tokenizer: PreTrainedTokenizerBase, settings: EvaluationSettings, tmp_path: Path
) -> None:
    policy = ScriptedPolicy(tokenizer, lambda prompt, number: RIGHT)
    attempt = run(policy, settings, EvaluationFolder(tmp_path), at_once=3)
    assert not attempt.failures and attempt.lost is None
    assert policy.most_at_once == 3
    trajectories = list(read_trajectories(tmp_path / "trajectories.jsonl"))
    assert sorted((int(one.group), one.session) for one in trajectories) == settings.schedule()
    for one in (json.loads(trajectory.line())["episode"] for trajectory in trajectories):
        episode, messages = played_by_hand(settings, one["task"], RIGHT)
        assert one["messages"] == messages
        assert [turn["reward"] for turn in one["turns"]] == episode.turn_rewards
        assert (one["success"], one["stop_reason"]) == (episode.success, episode.stop_reason.value)
        for turn in one["turns"]:
            assert turn["text"] == RIGHT and turn["valid"]
            assert turn["parsed"] == turn["executed"] == ["Right"]
            assert turn["tokens"] == len(tokenizer.encode(RIGHT, add_special_tokens=False)) + 1


def test_an_invalid_turn_says_what_is_wrong_with_it(
    tokenizer: PreTrainedTokenizerBase, settings: EvaluationSettings, tmp_path: Path
) -> None:
    attempt = run(ScriptedPolicy(tokenizer, lambda *_: PROSE), settings, EvaluationFolder(tmp_path), at_once=4)
    for record in attempt.finished:
        assert [turn.valid for turn in record.turns] == [False] * 3
        assert record.turns[0].problem == "text between </think> and <answer>" and record.turns[0].parsed == []
        assert record.stop_reason == "turn_limit" and record.reward == pytest.approx(-0.3)


def test_responses_are_seeded_by_what_they_are_and_not_by_when_they_are_asked_for(
    tokenizer: PreTrainedTokenizerBase, settings: EvaluationSettings, tmp_path: Path
) -> None:
    seeds = []
    for at_once in (1, 4):
        policy = ScriptedPolicy(tokenizer, lambda *_: PROSE)
        (tmp_path / str(at_once)).mkdir()
        run(policy, settings, EvaluationFolder(tmp_path / str(at_once)), at_once=at_once)
        seeds.append({(key, len(prompt)): params.seed for key, prompt, params in policy.asked})
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0].values())) == len(seeds[0]) == 12


def test_an_interrupted_evaluation_goes_on_where_it_stopped(
    tokenizer: PreTrainedTokenizerBase, settings: EvaluationSettings, tmp_path: Path
) -> None:
    folder = EvaluationFolder(tmp_path)

    def interrupt(prompt: str, number: int) -> str:
        if number == 7:
            raise KeyboardInterrupt
        return PROSE

    with pytest.raises(KeyboardInterrupt):
        run(ScriptedPolicy(tokenizer, interrupt), settings, folder, at_once=1)
    assert len(folder.episodes()) == 2  # 7 of 12 responses: two whole episodes of three turns
    with folder.trajectories.open("a") as file:
        file.write('{"task": 1, "sam')  # the machine went off while a line was written
    policy = ScriptedPolicy(tokenizer, lambda *_: PROSE)
    attempt = run(policy, settings, folder, at_once=1)
    assert {key for key, _, _ in policy.asked} == {"1-0", "1-1"}
    assert sorted((one.task, one.sample) for one in attempt.finished) == settings.schedule()
    assert len(folder.episodes()) == 4
    again = ScriptedPolicy(tokenizer, lambda *_: PROSE)
    assert len(run(again, settings, folder, at_once=1).finished) == 4 and again.asked == []


def test_a_folder_of_another_evaluation_is_refused_with_the_difference(tmp_path: Path) -> None:
    folder = EvaluationFolder(tmp_path / "out")
    settings = {"evaluation": {"temperature": 0.5, "options": {"size": (4, 4)}}}
    with (
        folder.claimed(settings),
        pytest.raises(ExperimentError, match="in use"),
        folder.claimed(settings),
    ):
        pass
    with folder.claimed(settings):  # the same one may go on
        pass
    other = {"evaluation": {**settings["evaluation"], "temperature": 1.0}}
    with pytest.raises(ExperimentError, match=r"evaluation\.temperature was 0\.5, is 1\.0"), folder.claimed(other):
        pass
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExperimentError, match="holds files but no eval"), EvaluationFolder(tmp_path).claimed({}):
        pass


@pytest.mark.parametrize("character", ["\u0085", "\u2028", "\u2029", "\x0c", "\x1c", "\r", "\r\n"])
def test_an_episode_may_hold_any_character_that_some_take_for_the_end_of_a_line(tmp_path: Path, character: str) -> None:
    folder = EvaluationFolder(tmp_path)
    messages = [{"role": "user", "content": f"a{character}b"}]
    for task in (1, 2):
        folder.add(episode(task, messages=messages))
    assert [(one.task, one.messages) for one in folder.episodes()] == [(1, messages), (2, messages)]


def test_only_the_line_that_was_cut_off_is_taken_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = EvaluationFolder(tmp_path)
    folder.add(whole_episode := episode(1, stop_reason="success"))
    whole = folder.trajectories.read_bytes()
    cut = '{"task": 2, "sample": 0, "reason": "ü'.encode()[:-1]  # in the middle of a character
    folder.trajectories.write_bytes(whole + cut)

    def emptied(path: Path, *args: object, **kwargs: object) -> None:
        raise AssertionError(f"{path} was written anew: ended in between, it would have lost every episode")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", emptied)
        patch.setattr(Path, "write_bytes", emptied)
        assert folder.episodes() == [whole_episode.episode]
    assert folder.trajectories.read_bytes() == whole
    folder.trajectories.write_bytes(cut)  # the very first episode
    assert folder.episodes() == [] and folder.trajectories.read_bytes() == b""


def test_the_episodes_of_an_older_version_are_refused_before_a_model_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trajectories.jsonl").write_text('{"task": 1, "sample": 0, "turns": []}\n')
    with pytest.raises(ExperimentError, match=r"trajectories\.jsonl, line 1: not a trajectory: there is no version"):
        EvaluationFolder(tmp_path).episodes()
    command = ["eval", "--model", "no/such/model", "--env", "frozenlake", "--out", str(tmp_path)]
    assert main(command) == 2
    assert "written by another version of this package" in capsys.readouterr().err


def test_an_episode_is_kept_token_by_token_as_it_was_played(
    tokenizer: PreTrainedTokenizerBase, settings: EvaluationSettings, tmp_path: Path
) -> None:
    policy = ScriptedPolicy(tokenizer, lambda *_: PROSE)
    run(policy, settings, EvaluationFolder(tmp_path), at_once=1)
    last_prompts = {key: prompt for key, prompt, _ in policy.asked}
    answer = [*tokenizer.encode(PROSE, add_special_tokens=False), tokenizer.eos_token_id]
    for one in read_trajectories(tmp_path / "trajectories.jsonl"):
        assert one.prompt_ids + one.ids == last_prompts[f"{one.group}-{one.session}"] + answer
        assert one.prompt.startswith("<|im_start|>system\n") and one.prompt.endswith("<think>")
        for number in range(3):
            assert [token for token, turn in zip(one.ids, one.turns, strict=True) if turn == number] == answer
        said = "".join(text for text, turn in zip(one.tokens, one.turns, strict=True) if turn == -1)
        assert said.count("<|im_start|>user\n") == 2
        # What stands between the answer's tags, prose before them or not.
        acts = "".join(text for text, span in zip(one.tokens, one.spans, strict=True) if span == "action")
        assert acts == "" or set(acts.split("Right")) == {""}
        assert one.turn_rewards == [-0.1] * 3 and one.environment == "frozenlake"
        assert one.signals == {} and one.step is None and one.policy_version is None


def test_log_probabilities_are_kept_where_the_policy_tells_them(
    tokenizer: PreTrainedTokenizerBase, settings: EvaluationSettings, tmp_path: Path
) -> None:
    answer = [*tokenizer.encode(RIGHT, add_special_tokens=False), tokenizer.eos_token_id]
    told = [-0.5 * n for n in range(len(answer))]
    policy = ScriptedPolicy(tokenizer, lambda *_: Answer(answer, log_probs=told))
    run(policy, settings, EvaluationFolder(tmp_path), at_once=1)
    for one in read_trajectories(tmp_path / "trajectories.jsonl"):
        kept = zip(one.signals["rollout_log_prob"], one.turns, strict=True)
        values = [value for value, turn in kept if turn >= 0]
        assert values == told * one.turn_count
        assert one.signals["rollout_log_prob"].count(None) == one.turns.count(-1)


def test_failures_that_are_not_the_models_are_kept_apart_and_played_again(
    tokenizer: PreTrainedTokenizerBase,
    settings: EvaluationSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = EvaluationFolder(tmp_path)
    from verl_actfocus.envs.frozenlake.env import FrozenLakeEnv

    reset = FrozenLakeEnv.reset

    def broken(self: TextEnv, *, seed: int | None = None, options: object = None) -> object:
        if seed == 1:
            raise OSError("the disk is full")
        return reset(self, seed=seed)

    monkeypatch.setattr(FrozenLakeEnv, "reset", broken)
    refused = Answer(error="the server refuses a prompt")
    policy = ScriptedPolicy(tokenizer, lambda prompt, number: refused if number == 0 else RIGHT)
    attempt = run(policy, settings, folder, at_once=1)
    assert [(one.task, one.sample) for one in attempt.finished] == [(0, 1)]
    failed = [one.episode for one in read_trajectories(folder.failures)]
    assert [(one.task, one.sample, one.stop_reason, one.failure) for one in failed if one] == [
        (0, 0, "rollout_aborted", "the server refuses a prompt"),
        (1, 0, "environment_error", "the environment FrozenLakeEnv failed on reset with OSError: the disk is full"),
        (1, 1, "environment_error", "the environment FrozenLakeEnv failed on reset with OSError: the disk is full"),
    ]
    monkeypatch.undo()
    attempt = run(ScriptedPolicy(tokenizer, lambda *_: RIGHT), settings, folder, at_once=2)
    assert len(attempt.finished) == 4 and attempt.failures == []
    assert not folder.failures.exists()


def test_when_the_policy_is_lost_nothing_more_is_begun(
    tokenizer: PreTrainedTokenizerBase, settings: EvaluationSettings, tmp_path: Path
) -> None:
    gone = Answer(error="the server is gone", lost=True)
    policy = ScriptedPolicy(tokenizer, lambda prompt, number: gone if number >= 3 else PROSE)
    attempt = run(policy, settings, EvaluationFolder(tmp_path), at_once=1)
    assert attempt.lost == "the server is gone"
    assert (len(attempt.finished), len(attempt.failures)) == (1, 1)
    assert len(policy.asked) == 4


@pytest.mark.parametrize(
    ("lengths", "reason", "failed"),
    [
        (Lengths(prompt=20, response=384), "prompt_too_long", True),
        (Lengths(prompt=128, response=384, total=40), "prompt_too_long", True),
        (Lengths(prompt=128, response=30), "context_full", False),
    ],
)
def test_episodes_end_at_the_lengths_for_the_reasons_that_training_gives(
    tokenizer: PreTrainedTokenizerBase,
    settings: EvaluationSettings,
    tmp_path: Path,
    lengths: Lengths,
    reason: str,
    failed: bool,
) -> None:
    settings = dataclasses.replace(settings, lengths=lengths, tasks=1, samples=1)
    attempt = run(ScriptedPolicy(tokenizer, lambda *_: PROSE), settings, EvaluationFolder(tmp_path), at_once=1)
    (record,) = attempt.failures if failed else attempt.finished
    assert record.stop_reason == reason
    assert (record.failure is not None) == failed


def test_webshop_reports_purchases(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    # FrozenLake's tokenizer cuts the words of a shop finely
    lengths = Lengths(prompt=2000, response=8000)
    settings = dataclasses.replace(paper_settings("webshop"), tasks=1, samples=1, lengths=lengths)

    def shop(prompt: str, number: int) -> str:
        page = prompt.rsplit("Turn ", 1)[1]
        choices = [word for word in page.split("click[")[1:]]
        names = [choice.split("]")[0] for choice in choices]
        if number == 0:
            return "</think><answer>search[shirt]</answer>"
        buy = next((name for name in names if name.casefold() == "buy now"), None)
        first = next((name for name in names if name.startswith("B0")), None)
        return f"</think><answer>click[{buy or first or names[0]}]</answer>"

    attempt = run(ScriptedPolicy(tokenizer, shop), settings, EvaluationFolder(tmp_path), at_once=1)
    (record,) = attempt.finished
    assert record.outcomes == {"purchase": True}, record.messages[-1]
    assert not record.success and record.stop_reason == "terminated"  # bought without regard to the goal
