"""The prompts of a training run: those of evaluation, with the model, tags and arguments of a configuration."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf
from transformers import AutoConfig, PreTrainedTokenizerBase
from verl.utils.fs import copy_to_local
from verl.utils.model import get_generation_config

from verl_actfocus.config.settings import ActFocusSettings
from verl_actfocus.episodes import TagSettings
from verl_actfocus.episodes.templates import prompt_builder
from verl_actfocus.episodes.tokens import PromptBuilder
from verl_actfocus.generation.turn_ends import closing_token, turn_ends


def episode_prompts(config: DictConfig, tokenizer: PreTrainedTokenizerBase, processor: Any) -> PromptBuilder:
    """Return the builder of a run's prompts.

    Args:
        config: a complete veRL configuration.
        tokenizer: the policy's tokenizer.
        processor: the processor of a model that sees images, else None.

    Raises:
        ValueError: the model's chat template cannot be played with, see `verl_actfocus.episodes.templates`.
    """
    given = config.data.get("apply_chat_template_kwargs")
    arguments = {} if given is None else OmegaConf.to_container(given, resolve=True)
    tags = ActFocusSettings.tags_from_config(config)
    model = config.actor_rollout_ref.model
    trusted = bool(model.get("trust_remote_code", False))
    return _prompts(tokenizer, processor, _config_path(config), trusted, tags, json.dumps(arguments))


def ends_of_turn(config: DictConfig, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return what ends a turn, by the generation settings that veRL's rollout servers take from the same place."""
    return _ends(tokenizer, _config_path(config))


def _config_path(config: DictConfig) -> str:
    model = config.actor_rollout_ref.model
    return str(model.get("hf_config_path") or model.path)


# veRL builds an agent loop for every trajectory.
@lru_cache(maxsize=4)
def _prompts(
    tokenizer: PreTrainedTokenizerBase, processor: Any, model: str, trusted: bool, tags: TagSettings, arguments: str
) -> PromptBuilder:
    model_type = AutoConfig.from_pretrained(copy_to_local(model), trust_remote_code=trusted).model_type
    end = closing_token(tokenizer, _ends(tokenizer, model))
    return prompt_builder(tokenizer, model_type, tags, end, json.loads(arguments), processor)


@lru_cache(maxsize=4)
def _ends(tokenizer: PreTrainedTokenizerBase, model: str) -> frozenset[int]:
    return turn_ends(tokenizer, get_generation_config(copy_to_local(model)))
