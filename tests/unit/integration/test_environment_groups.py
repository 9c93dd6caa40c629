"""The packaged environment groups: the paper's budgets, and training and evaluation kept apart."""

from __future__ import annotations

import dataclasses

import pytest
from omegaconf import OmegaConf
from transformers import AutoTokenizer

from verl_actfocus import models
from verl_actfocus.config.groups import packaged_groups
from verl_actfocus.envs import ENVIRONMENTS, EpisodeLimits, having, make, miniature
from verl_actfocus.episodes.tokens import ChatML
from verl_actfocus.experiments.runs.run import environments
from verl_actfocus.integration.dataset import EnvironmentDataset, EnvironmentSettings
from verl_actfocus.warmstart.demonstrations import demonstrate

from . import composing

BASE = ["algorithm.adv_estimator=actfocus_grpo", "+actfocus=default"]


def test_every_environment_of_the_package_has_a_group() -> None:
    own = [name for name, entry in ENVIRONMENTS.items() if entry.entry_point.startswith("verl_actfocus.")]
    assert packaged_groups("env") == sorted(own)


def test_weightings_are_compared_only_where_a_model_of_the_task_ships() -> None:
    assert packaged_groups("run") == sorted(["cpu_smollm2_frozenlake", *(f"cpu_{name}" for name in models.available())])
    assert environments() == models.available() == ["frozenlake", "sokoban", "sudoku", "webshop"]


@pytest.mark.parametrize(
    ("name", "limits", "model_length"),
    # He et al. 2026, App. C; WebShop's response tokens are not stated there
    [
        ("sokoban", EpisodeLimits(turns=5, actions_per_turn=2, actions=10, words=100, response_tokens=400), 3600),
        ("frozenlake", EpisodeLimits(turns=5, actions_per_turn=2, actions=10, words=120, response_tokens=400), 3600),
        ("sudoku", EpisodeLimits(turns=8, actions_per_turn=None, actions=16, words=150, response_tokens=400), 3600),
        ("webshop", EpisodeLimits(turns=9, actions_per_turn=1, actions=9, words=200, response_tokens=400), 8192),
    ],
)
def test_a_group_is_one_word_that_brings_the_papers_budgets(
    name: str, limits: EpisodeLimits, model_length: int
) -> None:
    data = composing.compose([*BASE, f"+actfocus/env={name}"]).data
    settings = EnvironmentSettings.from_config(data)
    assert settings.name == name
    assert settings.episode_limits() == limits
    assert settings.format_penalty == -0.1
    assert data.max_prompt_length + data.max_response_length == model_length


def test_webshop_and_textworld_are_evaluated_on_tasks_that_training_never_draws() -> None:
    data = composing.compose([*BASE, "+actfocus/env=webshop"]).data
    train, val = (EnvironmentDataset(split, config=data) for split in ("train", "val"))
    assert len(val) == 256  # He et al. 2026, App. C
    train_env, val_env = (make("webshop", **rows[0]["environment"]["kwargs"]) for rows in (train, val))
    goals = [set(env.shop.splits[env.split].tolist()) for env in (train_env, val_env)]
    assert goals[0] and goals[1] and not goals[0] & goals[1]

    data = composing.compose([*BASE, "+actfocus/env=textworld"]).data
    kwargs = [EnvironmentDataset(split, config=data)[0]["environment"]["kwargs"] for split in ("train", "val")]
    games = [set(range(k["first_game"], k["first_game"] + k["games"])) for k in kwargs]
    assert not games[0] & games[1]


def test_the_pretrained_models_run_is_the_miniature_with_more_tokens_a_response_and_a_worked_turn() -> None:
    config = composing.compose([*BASE, "+actfocus/run=cpu_smollm2_frozenlake", "+actfocus/device=cpu"])
    settings, task = EnvironmentSettings.from_config(config.data), miniature("frozenlake")
    assert (settings.name, settings.kwargs, settings.prompt_style) == ("frozenlake", dict(task.options), "worked_turn")
    limits = settings.episode_limits()
    assert limits == dataclasses.replace(task.limits, response_tokens=limits.response_tokens)
    assert limits.response_tokens > task.limits.response_tokens
    model = config.actor_rollout_ref.model
    assert model.tokenizer_path == model.path == "./outputs/smollm2-frozenlake", "where its warm start is documented"
    assert config.actor_rollout_ref.rollout.max_num_seqs == 16, "keys and values of 128 would be 6.8 GB"


@pytest.mark.parametrize("device", ["cpu", "cpu_vllm"])
@pytest.mark.parametrize("run", packaged_groups("run"))
def test_the_order_of_run_and_device_decides_nothing(run: str, device: str) -> None:
    groups = [f"+actfocus/run={run}", f"+actfocus/device={device}"]
    one, other = (OmegaConf.to_container(composing.compose([*BASE, *order])) for order in (groups, groups[::-1]))
    assert one == other


@pytest.mark.parametrize("name", having("miniature"))
def test_a_miniature_is_the_task_that_its_model_was_made_for_and_has_room_for_the_longest_episodes(name: str) -> None:
    config = composing.compose([*BASE, f"+actfocus/run=cpu_{name}", "+actfocus/device=cpu"])
    settings, task = EnvironmentSettings.from_config(config.data), miniature(name)
    assert (settings.name, settings.kwargs) == (task.environment, dict(task.options))
    assert settings.val_kwargs == dict(task.evaluation_options)
    assert settings.episode_limits() == task.limits
    assert config.actor_rollout_ref.model.path == str(models.folder(name) / "model")
    encoder = ChatML(AutoTokenizer.from_pretrained(config.actor_rollout_ref.model.tokenizer_path), "<think>")
    env = task.make_env()
    played = [demonstrate(task, env, seed=2, index=index).messages for index in range(100)]
    pages = [
        len(encoder.following([encoder.turn_end_id], [], message)) for messages in played for message in messages[3::2]
    ]
    assert max(len(encoder.first(messages[:2])) for messages in played) <= config.data.max_prompt_length
    longest = task.limits.turns * task.limits.response_tokens + (task.limits.turns - 1) * max(pages)
    assert longest <= config.data.max_response_length
