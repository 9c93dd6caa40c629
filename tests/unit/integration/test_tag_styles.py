"""Whatever the tags: the prompt asks for them, the parser accepts them, the tagger finds them; in training, evaluation
and play alike, and with the same tokens, budgets and seeds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from verl_actfocus import models
from verl_actfocus.cli.main import main
from verl_actfocus.episodes import STANDARD_TAGS, TagSettings, write_response
from verl_actfocus.evaluation.checkpoints import find_model
from verl_actfocus.evaluation.local import LocalModel
from verl_actfocus.evaluation.records import EvaluationFolder
from verl_actfocus.evaluation.runner import run
from verl_actfocus.evaluation.tokenizers import load_tokenizer
from verl_actfocus.integration import fields
from verl_actfocus.weighting import Span

from ...tag_styles import FOREIGN, FOREIGN_PREFILLED, foreign_model
from .scripted import Scripted, evaluated, settings_with, trained

REST = TagSettings(action="rest")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer(str(models.folder("frozenlake") / "tokenizer"))


@pytest.mark.parametrize("tags", [STANDARD_TAGS, FOREIGN, FOREIGN_PREFILLED, REST], ids=str)
def test_training_and_evaluation_ask_for_accept_and_find_the_tags_that_are_set(
    tokenizer: PreTrainedTokenizerBase, tags: TagSettings, tmp_path: Path
) -> None:
    settings = settings_with(tags)
    texts = [write_response("Up", "Grüße.", tags=tags), "prose", write_response("Up || Left", tags=tags)]
    server, policy = Scripted(tokenizer, texts), Scripted(tokenizer, texts)
    record, stored = evaluated(policy, settings, tmp_path), trained(server, settings)
    # The same tokens, budgets and seeds in both.
    assert policy.asked == server.asked
    assert record.counts() == stored["counts"]
    # The prompt asks for the tags and ends with the prefill,
    before, after = tags.around_action
    asked_for = f"{tags.reasoning[0]}reasoning{tags.reasoning[1]}{before}action || action{after} and nothing else."
    for prompt, _, _ in server.asked:
        text = tokenizer.decode(prompt)
        assert text.count(asked_for) == text.count("Turn ") and text.endswith(f"assistant\n{tags.prefill}")
    # the parser accepts them,
    assert [turn.valid for turn in record.turns] == [True, False, True]
    assert [turn.parsed for turn in record.turns] == [["Up"], [], ["Up", "Left"]]
    # and the tagger finds them: those tokens whose text is the action's, and no token of the environment.
    ids, mask, spans = stored["responses"], stored["response_mask"], stored[fields.SPANS]
    chosen = [int(i) for i, span in zip(ids, spans, strict=True) if span == Span.ACTION]
    assert tokenizer.decode(chosen) == "UpUp || Left"
    assert (spans[~mask.bool()] == Span.NONE).all()
    assert sum(turn.action_tokens for turn in record.turns) == len(chosen)
    assert record.turns[0].reasoning_tokens == len(tokenizer.encode("Grüße.", add_special_tokens=False))


def test_a_response_in_the_standard_tags_is_invalid_where_others_are_asked_for(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    texts = ["<think>Up.</think><answer>Up</answer>"] * 3
    record = evaluated(Scripted(tokenizer, texts), settings_with(FOREIGN), tmp_path)
    assert {turn.problem for turn in record.turns} == {"the response does not begin with <reason>"}
    assert sum(turn.action_tokens for turn in record.turns) == 0


def test_a_model_that_writes_other_tags_plays_as_it_does_with_the_standard_ones(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    played = []
    for folder, tags in (
        (models.folder("frozenlake"), STANDARD_TAGS),
        (foreign_model("frozenlake", tmp_path / "model"), FOREIGN_PREFILLED),
    ):
        settings = dataclasses.replace(settings_with(tags), tasks=4)
        out = EvaluationFolder(tmp_path / f"out-{len(played)}")
        out.path.mkdir()
        model = LocalModel(find_model(str(folder)), device="cpu")
        played.append(sorted(run(model, settings, out, at_once=4).finished, key=lambda one: one.task))
    for standard, foreign in zip(*played, strict=True):
        assert foreign.counts() == standard.counts()
        for one, other in zip(standard.turns, foreign.turns, strict=True):
            assert (other.executed, other.reward) == (one.executed, one.reward)
            assert (other.action_tokens, other.reasoning_tokens) == (one.action_tokens, one.reasoning_tokens)
            assert other.action_tokens > 0
            respelled = other.text.replace("reason>", "think>").replace("act>", "answer>")
            assert respelled == one.text != other.text


def test_the_command_line_evaluates_and_plays_with_other_tags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = foreign_model("frozenlake", tmp_path / "model")
    tags = [
        "--action-tags",
        "['<act>','</act>']",
        "--reasoning-tags",
        "['<reason>','</reason>']",
        "--prefill",
        "<reason>",
    ]
    command = ["--model", str(folder), "--profile", "cpu_frozenlake", "--episodes", "8", "--samples-per-task", "1"]
    assert main(["eval", *command, *tags, "--out", str(tmp_path / "out")]) == 0
    records = EvaluationFolder(tmp_path / "out").episodes()
    assert sum(record.valid_turns for record in records) >= 0.8 * sum(len(record.turns) for record in records)
    assert all(turn.action_tokens > 0 for record in records for turn in record.turns)
    capsys.readouterr()
    policy = ["--policy", f"model:{folder}", "--temperature", "0"]
    assert main(["play", "frozenlake", "--miniature", *policy, *tags]) == 0
    printed = capsys.readouterr().out
    assert "<act>action || action</act> and nothing else." in printed
    assert "invalid" not in printed and "| action 0 ==" not in printed and "== executed: none" not in printed
