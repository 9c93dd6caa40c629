"""How an engine builds its model, where veRL leaves something to chance or decides it for the user.

`SeededWeights` draws new weights from the engine's seed: the critic's head and LoRA's adapters, which veRL takes from
whatever state torch's random numbers are in. `ChosenAttention` gives the critic the attention that its configuration
names: veRL's own asks for flash attention whatever is said, and answers its absence with "please install trl"
(`verl/utils/model.py`, `load_valuehead_model`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForTokenClassification, PreTrainedModel
from verl.utils import model as verl_model
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine, FSDPEngineWithValueHead

from verl_actfocus.config.engines import FLASH_ATTENTION


class SeededWeights(FSDPEngine):
    """Engine whose new weights follow from its seed, whatever was drawn before; other random numbers are as without."""

    def _build_module(self) -> PreTrainedModel:
        with self._seeded():
            module: PreTrainedModel = super()._build_module()
        return module

    def _build_lora_module(self, module: PreTrainedModel) -> nn.Module:
        with self._seeded():
            adapted: nn.Module = super()._build_lora_module(module)
        return adapted

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        with torch.random.fork_rng(devices=[]):
            # The CPU's generator alone: weights are drawn there, and torch.manual_seed would seed every GPU too.
            torch.default_generator.manual_seed(self.engine_config.seed)
            yield


class ChosenAttention(FSDPEngineWithValueHead):
    """Critic with the attention of `critic.model.override_config.attn_implementation`."""

    def _build_module(self) -> PreTrainedModel:
        if self.model_config.hf_config._attn_implementation == FLASH_ATTENTION:
            stock: PreTrainedModel = super()._build_module()
            return stock
        # veRL imports the function when it builds the model; all around it stays veRL's.
        stock_loader = verl_model.load_valuehead_model
        verl_model.load_valuehead_model = _load_value_model
        try:
            module: PreTrainedModel = super()._build_module()
        finally:
            verl_model.load_valuehead_model = stock_loader
        return module


def _load_value_model(
    local_path: str, torch_dtype: torch.dtype, model_config: Any, trust_remote_code: bool
) -> PreTrainedModel:
    """Load a model with one output per token; arguments are those of veRL's `load_valuehead_model`."""
    module: PreTrainedModel = AutoModelForTokenClassification.from_pretrained(
        local_path,
        dtype=torch_dtype,
        config=model_config,
        attn_implementation=model_config._attn_implementation,
        trust_remote_code=trust_remote_code,
    )
    return module
