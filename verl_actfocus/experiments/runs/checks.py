"""What a run's complete configuration is checked for before veRL is started: the value of every setting.

veRL would find most of these minutes later, in a worker process, and a few never.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_actfocus.config.engines import CPU_SERVER, has_critic
from verl_actfocus.config.environment import EnvironmentSettings
from verl_actfocus.config.models import names_folder
from verl_actfocus.storage.errors import ExperimentError

#: Settings that count something. Null, where veRL allows it, leaves the count to veRL.
_COUNTS = (
    "trainer.total_epochs",
    "trainer.total_training_steps",
    "data.max_prompt_length",
    "data.max_response_length",
    "data.gen_batch_size",
    "data.val_batch_size",
    "actor_rollout_ref.actor.ppo_epochs",
    "actor_rollout_ref.rollout.n",
    "actor_rollout_ref.rollout.val_kwargs.n",
    "actor_rollout_ref.rollout.max_model_len",
    "actor_rollout_ref.rollout.max_num_seqs",
    "actor_rollout_ref.rollout.max_num_batched_tokens",
    *(
        f"{section}.{name}"
        for section in ("actor_rollout_ref.actor", "critic")
        for name in (
            "ppo_mini_batch_size",
            "ppo_micro_batch_size",
            "ppo_micro_batch_size_per_gpu",
            "ppo_max_token_len_per_gpu",
        )
    ),
    *(
        f"actor_rollout_ref.{section}.log_prob_{name}"
        for section in ("rollout", "ref")
        for name in ("micro_batch_size", "micro_batch_size_per_gpu", "max_token_len_per_gpu")
    ),
)
#: Settings that are at least 0.
_NOT_NEGATIVE = (
    "actor_rollout_ref.rollout.temperature",
    "actor_rollout_ref.rollout.val_kwargs.temperature",
    "actor_rollout_ref.actor.optim.lr",
    "critic.optim.lr",
)
#: Settings that name a model or a tokenizer; those of the critic count where there is one.
_MODELS = ("path", "tokenizer_path")


def check_values(config: DictConfig, settings: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
    """Check the values of a run's settings.

    Args:
        config: the complete configuration.
        settings: the same, dotted name → value, interpolations unresolved.
        usual: the settings without what the user has changed.

    Raises:
        ValueError: a value has the wrong type, is out of range or names what does not exist; the message names setting,
            value and remedy.
        ExperimentError: likewise.
    """
    from verl_actfocus.config.compatibility import check_compatible, check_vllm  # torch
    from verl_actfocus.config.settings import ActFocusSettings

    own = ActFocusSettings.from_config(config)
    EnvironmentSettings.from_config(config.data).check()
    _check_types(settings, usual)
    for key in _COUNTS:
        _require(config, key, "a whole number of at least 1", lambda value: type(value) is int and value >= 1)
    for key in _NOT_NEGATIVE:
        _require(config, key, "a number of at least 0", lambda value: type(value) in (int, float) and value >= 0)
    for section in ("rollout", "rollout.val_kwargs"):
        _check_sampling(config, f"actor_rollout_ref.{section}")
    _check_epochs(config)
    check_compatible(config, own)
    check_vllm(config)


def check_models(config: DictConfig) -> None:
    """Check that the folders of a run's models are there.

    Args:
        config: the complete configuration.

    Raises:
        ExperimentError: one is not, or is written with a `~`; the message names setting, folder and remedy.
    """
    sections = ["actor_rollout_ref.model", *(["critic.model"] if has_critic(config) else [])]
    for key in (f"{section}.{name}" for section in sections for name in _MODELS):
        path = OmegaConf.select(config, key)
        if isinstance(path, str) and path.startswith("~"):
            raise ExperimentError(f"{key}={path}: veRL does not expand ~; write {Path(path).expanduser()}")
        if isinstance(path, str) and names_folder(path) and not Path(path).is_dir():
            raise ExperimentError(f"{key}={path}: there is no such folder; name one, or a model on the hub")


def _check_sampling(config: DictConfig, section: str) -> None:
    """Refuse what no server samples with; it would say so of every single request."""
    from verl_actfocus.generation.sampling import LEAST_TEMPERATURE  # torch

    on_cpu_server = config.actor_rollout_ref.rollout.name == CPU_SERVER
    _require(config, f"{section}.top_p", "above 0 and at most 1", lambda value: _is_number(value) and 0 < value <= 1)
    least = "-1 (all) or at least 1" if on_cpu_server else "at least -1"
    _require(
        config,
        f"{section}.top_k",
        least,
        lambda value: type(value) is int and value >= -1 and not (on_cpu_server and value == 0),
    )
    if on_cpu_server:
        wanted = f"0 or at least {LEAST_TEMPERATURE}"
        _require(
            config,
            f"{section}.temperature",
            wanted,
            lambda value: _is_number(value) and (value == 0 or value >= LEAST_TEMPERATURE),
        )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _check_epochs(config: DictConfig) -> None:
    """Refuse tasks of an environment that end before the steps do."""
    steps, epochs = config.trainer.total_training_steps, config.trainer.total_epochs
    if config.data.get("environment") is None or steps is None:
        return
    tasks, batch = config.data.environment.train_size, config.data.train_batch_size
    if all(type(value) is int for value in (steps, epochs, batch)) and batch >= 1 and tasks // batch * epochs < steps:
        raise ExperimentError(
            f"trainer.total_training_steps={steps}, but trainer.total_epochs={epochs} of {tasks // batch} steps each "
            f"(data.environment.train_size={tasks}, data.train_batch_size={batch}) end the run before; raise "
            "trainer.total_epochs or data.environment.train_size, or lower trainer.total_training_steps"
        )


def _check_types(settings: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
    """Refuse numbers that are none, and what has another type than the setting usually has."""
    for key, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ExperimentError(f"{key}={value} must be a finite number")
        before = usual.get(key)
        if value is None or _is_reference(value):
            continue
        if isinstance(before, bool) and not isinstance(value, bool):
            raise ExperimentError(f"{key}={value!r} must be true or false (it is {before} unless you set it)")
        if type(before) in (int, float) and type(value) not in (int, float):
            raise ExperimentError(f"{key}={value!r} must be a number (it is {before} unless you set it)")


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _require(config: DictConfig, key: str, what: str, holds: Callable[[Any], bool]) -> None:
    value = OmegaConf.select(config, key)
    if value is not None and not holds(value):
        raise ExperimentError(f"{key}={value!r} must be {what}")
