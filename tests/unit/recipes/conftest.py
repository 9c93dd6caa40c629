"""Importing veRL on a machine without an accelerator needs the CPU platform named first."""

import os
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.resources import files
from typing import Any

import pytest
from omegaconf import OmegaConf

os.environ.setdefault("VERL_PLATFORM", "cpu")


@lru_cache(maxsize=64)
def _composed(overrides: tuple[str, ...]) -> Any:
    from hydra import compose, initialize_config_module

    import_module("verl")  # loads the plugin, which tells Hydra where the groups are
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=list(overrides))
    # Shared by the tests of a session.
    OmegaConf.set_readonly(config, True)
    return config


@pytest.fixture(scope="session")
def compose_recipe() -> Callable[..., Any]:
    """Compose a recipe through veRL's own configuration, as the training command does."""

    def compose(recipe: str, weighting: str = "default", *extra: str) -> Any:
        return _composed((f"+actfocus={weighting}", f"+actfocus/recipe={recipe}", *extra))

    return compose


@pytest.fixture(scope="session")
def compose_local(compose_recipe: Callable[..., Any]) -> Callable[..., Any]:
    """The same with seed 7 and a packaged model in the place of Qwen2.5: veRL's model classes read model files."""
    folder = files("verl_actfocus") / "models" / "frozenlake"
    overrides = [
        "data.seed=7",
        f"actor_rollout_ref.model.path={folder}/model",
        f"actor_rollout_ref.model.tokenizer_path={folder}/tokenizer",
        f"critic.model.tokenizer_path={folder}/tokenizer",
    ]
    return lambda recipe, weighting="default": compose_recipe(recipe, weighting, *overrides)
