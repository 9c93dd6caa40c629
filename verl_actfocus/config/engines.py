"""What a complete configuration says about veRL's training engines. Free of veRL and torch."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

#: What veRL takes where `model.override_config.attn_implementation` says nothing (`verl/workers/config/model.py`).
FLASH_ATTENTION = "flash_attention_2"
#: Estimator of ActFocus that needs a critic.
CRITIC_ESTIMATOR = "actfocus_gae"


def attention(config: DictConfig, model: str) -> str:
    """Return the attention that a model is trained with.

    Args:
        config: a complete configuration.
        model: section of the model, such as `actor_rollout_ref.model`.
    """
    return str(OmegaConf.select(config, f"{model}.override_config.attn_implementation") or FLASH_ATTENTION)


def has_critic(config: DictConfig) -> bool:
    """Whether a critic is trained; where the configuration does not say, its estimator does."""
    enabled = config.critic.enable
    return config.algorithm.adv_estimator == CRITIC_ESTIMATOR if enabled is None else bool(enabled)


def sequence_parallel(config: DictConfig, engine: str) -> int:
    """GPUs that one trajectory is spread over.

    Args:
        config: a complete configuration.
        engine: section of the engine, such as `critic.fsdp`.
    """
    # veRL copies its older setting of the actor into that of the engine.
    sections = [engine, engine.removesuffix(".fsdp_config")] if engine.endswith("actor.fsdp_config") else [engine]
    found = [OmegaConf.select(config, f"{section}.ulysses_sequence_parallel_size") for section in sections]
    return max(ranks or 1 for ranks in found)
