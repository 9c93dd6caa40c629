"""The agent loop of episodes outside of veRL's workers, with a server of the test's own."""

from __future__ import annotations

import asyncio
from typing import Any

from omegaconf import DictConfig
from transformers import PreTrainedTokenizerBase
from verl.experimental.agent_loop.agent_loop import DictConfigWrap

from verl_actfocus.integration.agent_loop import EpisodeLoop, EpisodeOutput


def play_episode(
    config: DictConfig,
    server: Any,
    tokenizer: PreTrainedTokenizerBase,
    row: dict[str, Any],
    *,
    model_type: str = "qwen2",
    sampling_params: dict[str, Any] | None = None,
    session_id: int = 0,
    global_steps: int = 0,
) -> EpisodeOutput | list[Any]:
    """Play the episode of a dataset row as `uid` "u"; an empty list is an excluded trajectory."""

    async def play() -> Any:
        loop = EpisodeLoop(
            trainer_config=DictConfigWrap(config),
            server_manager=server,
            tokenizer=tokenizer,
            processor=None,
            dataset_cls=None,
            data_config=DictConfigWrap(config.data),
            hf_model_type=model_type,
        )
        return await loop.run(
            sampling_params or {}, environment=row, uid="u", session_id=session_id, global_steps=global_steps
        )

    return asyncio.run(play())
