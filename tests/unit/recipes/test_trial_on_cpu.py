"""`+actfocus/device=cpu_trial` makes any recipe small enough for a CPU and leaves the method alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from omegaconf import OmegaConf
from transformers import AutoTokenizer

from verl_actfocus import models
from verl_actfocus.config import resolvers
from verl_actfocus.config.compatibility import check_compatible
from verl_actfocus.config.environment import EnvironmentSettings
from verl_actfocus.config.settings import ActFocusSettings
from verl_actfocus.envs import make
from verl_actfocus.episodes import Episode
from verl_actfocus.episodes.tokens import ChatML
from verl_actfocus.integration.dataset import EnvironmentDataset

from .test_recipes import RECIPES, critic_of, environment_of, kept_trajectories

recipes = pytest.mark.parametrize("recipe", RECIPES)

#: All that a trial may differ in from its recipe: sizes, lengths, model, and what says how and where it is computed.
CHANGED = {
    "data": {"train_batch_size", "max_prompt_length", "max_response_length"},
    "data.environment": {"kwargs", "limits", "val_size"},
    "actor_rollout_ref.model": {"path", "tokenizer_path"},
    "actor_rollout_ref.actor": {"ppo_mini_batch_size"},
    "actor_rollout_ref.rollout": {"n", "max_model_len", "name", "dtype", "max_num_seqs"},
    "actor_rollout_ref.rollout.val_kwargs": {"n"},
    "trainer": {"total_training_steps", "save_freq", "resume_mode", "device", "nnodes", "n_gpus_per_node"},
}
#: Sections that say how a computation is carried out, not which.
HOW = (
    ".override_config", ".lora", ".fsdp_config", ".fsdp", ".mixed_precision", ".agent", ".backend", "ray_kwargs",
    "reward",
)  # fmt: skip
HOW_KEYS = {"use_remove_padding", "enable_gradient_checkpointing", "use_torch_compile"}
#: Turns and actions of a recipe's episode (He et al. 2026, App. C), actions per turn and task of the tiny model.
EPISODES = {
    "sokoban": (5, 2, 10, {"search_depth": 6}),
    "frozenlake": (5, 2, 10, {"success_rate": 1.0}),
    "sudoku": (8, 1, 16, {"empty_cells": 3}),
    "webshop": (9, 1, 9, {"split": "train", "hits_per_page": 4}),
}


def leaves(section: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every value that is written down in a configuration: section, key, value (references by their text)."""
    for key, value in section.items():
        inside = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict) and inside not in ("data.environment.kwargs", "data.environment.limits"):
            yield from leaves(value, inside)
        else:
            yield path, str(key), value


@pytest.fixture
def compose_trial(compose_recipe):
    return lambda recipe, *extra: compose_recipe(recipe, "default", "+actfocus/device=cpu_trial", *extra)


@recipes
def test_a_trial_changes_sizes_model_and_device_and_nothing_of_the_method(compose_recipe, compose_trial, recipe):
    def written(config: Any) -> dict[tuple[str, str], Any]:
        return {(path, key): value for path, key, value in leaves(OmegaConf.to_container(config))}

    before, after = written(compose_recipe(recipe)), written(compose_trial(recipe))
    differing = {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}
    unexpected = {
        f"{path}.{key}"
        for path, key in differing
        if key not in CHANGED.get(path, ())
        and key not in HOW_KEYS
        and not any(f".{part.strip('.')}." in f".{path}." for part in HOW)
    }
    # The critic of a trial reads the tiny model's tokenizer.
    assert unexpected == {"critic.model.tokenizer_path"}


@recipes
def test_a_trial_makes_as_many_optimizer_steps_as_its_recipe(compose_recipe, compose_trial, recipe):
    def updates(config: Any) -> float:
        return kept_trajectories(config) / (
            config.actor_rollout_ref.actor.ppo_mini_batch_size * config.actor_rollout_ref.rollout.n
        )

    assert updates(compose_trial(recipe)) == updates(compose_recipe(recipe)) in (1, 4)


@recipes
def test_verl_and_actfocus_accept_a_trial(compose_trial, recipe):
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    config = compose_trial(recipe)
    check_compatible(config, ActFocusSettings.from_config(config))
    assert need_critic(config) is critic_of(recipe)
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))


@recipes
def test_the_episodes_are_those_of_the_recipe_with_short_responses_in_the_tiny_models_task(compose_trial, recipe):
    config, env = compose_trial(recipe), environment_of(recipe)
    limits = EnvironmentSettings.from_config(config.data).episode_limits()
    kwargs = EnvironmentDataset("train", config=config.data)[0]["environment"]["kwargs"]
    assert (limits.turns, limits.actions_per_turn, limits.actions, kwargs) == EPISODES[env]
    assert (limits.words, limits.response_tokens) == (40, 64)
    assert make(env, **kwargs).reset(seed=0)[0]


@recipes
def test_the_first_prompts_of_a_trial_fit(compose_trial, recipe):
    config = compose_trial(recipe)
    rollout, model = config.actor_rollout_ref.rollout, config.actor_rollout_ref.model
    assert config.data.max_prompt_length + config.data.max_response_length == rollout.max_model_len
    assert rollout.max_model_len <= model.override_config.max_position_embeddings
    settings = EnvironmentSettings.from_config(config.data)
    env, encoder = (
        make(settings.name, **settings.kwargs),
        ChatML(AutoTokenizer.from_pretrained(model.tokenizer_path), "<think>"),
    )
    lengths = [len(encoder.first(Episode(env, settings.episode_limits()).reset(seed))) for seed in range(50)]
    assert max(lengths) <= config.data.max_prompt_length


def test_the_users_own_arguments_take_the_place_of_the_tiny_models_task(compose_trial):
    for recipe, override, expected in (
        ("frozenlake_grpo", "++data.environment.kwargs.success_rate=0.8", {"success_rate": 0.8}),
        ("webshop_grpo", "+data.environment.kwargs.items_path=/data/items.json", {"items_path": "/data/items.json"}),
    ):
        assert EnvironmentSettings.from_config(compose_trial(recipe, override).data).kwargs == expected


def test_the_model_is_the_first_one_that_ships():
    assert resolvers.model("sokoban", "frozenlake") == str(models.folder("sokoban"))
    assert resolvers.model("chess", "frozenlake") == str(models.folder("frozenlake"))
    with pytest.raises(ValueError, match=r"no model 'chess' is shipped, only frozenlake"):
        resolvers.model("chess")
