"""What a complete configuration says about veRL's training engines. Free of veRL, and of torch until it is asked."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

#: What veRL takes where `model.override_config.attn_implementation` says nothing (`verl/workers/config/model.py`).
FLASH_ATTENTION = "flash_attention_2"
#: Value of `actor_rollout_ref.rollout.name` that selects the server of `verl_actfocus.integration.cpu`.
CPU_SERVER = "hf_cpu"


def attention(config: DictConfig, model: str) -> str:
    """Return the attention that a model is trained with.

    Args:
        config: a complete configuration.
        model: section of the model, such as `actor_rollout_ref.model`.
    """
    return str(OmegaConf.select(config, f"{model}.override_config.attn_implementation") or FLASH_ATTENTION)


def has_critic(config: DictConfig) -> bool:
    """Whether a critic is trained; where the configuration does not say, its estimator does."""
    from verl_actfocus.estimators import ESTIMATORS, PREFIX  # torch

    if config.critic.enable is not None:
        return bool(config.critic.enable)
    name = str(config.algorithm.adv_estimator)
    own = ESTIMATORS.get(name.removeprefix(PREFIX))
    return (name if own is None else own.base) == "gae"


def sequence_parallel(config: DictConfig, engine: str) -> int:
    """GPUs that one trajectory is spread over.

    Args:
        config: a complete configuration.
        engine: section of the engine, such as `critic.fsdp`.
    """
    # veRL has an older setting one level up, and copies the actor's into that of its engine.
    sections = dict.fromkeys([engine, engine.removesuffix(".fsdp_config")])
    found = [OmegaConf.select(config, f"{section}.ulysses_sequence_parallel_size") for section in sections]
    return max(ranks or 1 for ranks in found)
