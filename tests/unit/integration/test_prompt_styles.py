"""The prompt style of a run: the same prompts in training and in evaluation, and refused before anything is built."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from verl_actfocus import models
from verl_actfocus.cli.main import main
from verl_actfocus.config.environment import EnvironmentSettings
from verl_actfocus.episodes import STANDARD_TAGS
from verl_actfocus.episodes.phrasing import PROMPT_STYLES
from verl_actfocus.episodes.tokens import Lengths
from verl_actfocus.evaluation.settings import paper_settings
from verl_actfocus.evaluation.tokenizers import load_tokenizer
from verl_actfocus.integration import fields
from verl_actfocus.integration.dataset import EnvironmentDataset

from .scripted import Scripted, evaluated, settings_with, trained

VALID = " Up is free.</think><answer>Up</answer>"


@pytest.mark.parametrize("style", PROMPT_STYLES)
def test_training_and_evaluation_ask_the_same_prompts_and_train_on_the_responses_alone(
    style: str, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(str(models.folder("frozenlake") / "tokenizer"))
    roomy = dataclasses.replace(settings_with(STANDARD_TAGS), lengths=Lengths(prompt=800, response=800))
    settings = roomy.with_prompt_style(style)
    policy, server = Scripted(tokenizer, [VALID] * 3), Scripted(tokenizer, [VALID] * 3)
    record, stored = evaluated(policy, settings, tmp_path), trained(server, settings)
    assert [asked[0] for asked in server.asked] == [asked[0] for asked in policy.asked]
    assert record.counts() == stored["counts"]
    shown = tokenizer.decode(server.asked[0][0])
    assert ("That was an example" in shown) == PROMPT_STYLES[style].worked_turn
    assert stored["prompts"].tolist() == server.asked[0][0], "a worked turn is part of the first prompt"
    trained_on = [token for token, mask in zip(stored["responses"], stored["response_mask"], strict=True) if mask]
    assert len(trained_on) == sum(turn.tokens for turn in record.turns)
    assert len(stored[fields.SPANS]) == len(stored["responses"])


def test_an_evaluation_shows_the_worked_turn_of_training_where_its_tasks_are_others() -> None:
    config = OmegaConf.create(
        {
            "environment": {
                "name": "webshop",
                "kwargs": {"split": "train"},
                "val_kwargs": {"split": "validation"},
                "prompt_style": "worked_turn",
            }
        }
    )
    rows = [EnvironmentDataset(split, config=config)[0]["environment"] for split in ("train", "val")]
    evaluation = paper_settings("webshop").with_prompt_style("worked_turn")
    assert evaluation.options == {"split": "validation"} and rows[1]["kwargs"] == {"split": "validation"}
    assert rows[0]["phrasing"] == rows[1]["phrasing"] == dataclasses.asdict(evaluation.phrasing())


def test_another_style_leaves_an_episode_its_tokens_and_lets_the_first_prompt_grow() -> None:
    brief = paper_settings("frozenlake")
    worked = brief.with_prompt_style("worked_turn")
    assert worked.lengths.most == brief.lengths.most == 3600 and worked.lengths.prompt == 3600
    assert brief.with_prompt_style("brief") is brief


def test_an_unknown_style_is_refused_with_the_setting_and_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"data\.environment\.prompt_style: unknown prompt style 'chatty': known are"):
        EnvironmentSettings(name="frozenlake", prompt_style="chatty")


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "--model", "nowhere", "--env", "frozenlake"],
        ["diagnose", "decisions", "--model", "nowhere", "--env", "frozenlake"],
        ["play", "frozenlake"],
        ["prompt-lengths", "--tokenizer", str(models.folder("frozenlake") / "tokenizer"), "--env", "frozenlake"],
    ],
)
def test_every_command_that_plays_refuses_an_unknown_style(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--prompt-style", "chatty"]) == 2
    assert "unknown prompt style 'chatty': known are brief, placeholders" in capsys.readouterr().err
