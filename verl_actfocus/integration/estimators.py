"""The advantage estimators `actfocus_grpo` and `actfocus_gae`: veRL's own advantages, untouched.

Weighting changes how an advantage is *distributed* over tokens and happens in the loss (He et al. 2026, Eq. 6), so
there is nothing to change here. The names are the switch: `ActFocusTrainer` recognises them and adds the weights. Run
by any other trainer they would silently be the stock estimators, so without `algorithm.actfocus.weighting` they
refuse.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from omegaconf import DictConfig
from torch import Tensor
from verl.trainer.ppo.core_algos import compute_gae_advantage_return, compute_grpo_outcome_advantage


def actfocus_grpo(
    token_level_rewards: Tensor,
    response_mask: Tensor,
    index: np.ndarray,
    config: DictConfig | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Group-normalised outcome advantages of GRPO.

    Args:
        token_level_rewards: `(B, T)`.
        response_mask: `(B, T)`.
        index: `(B,)` group of each response.
        config: veRL's `algorithm` section with `actfocus.weighting` in it; None computes the plain estimator.

    Returns:
        Advantages and returns, `(B, T)` each.

    Raises:
        ValueError: the configuration asks for this name but has no `actfocus.weighting`.
    """
    _require_weighting(config, "actfocus_grpo")
    normalise = True if config is None else config.get("norm_adv_by_std_in_grpo", True)
    return compute_grpo_outcome_advantage(token_level_rewards, response_mask, index, norm_adv_by_std_in_grpo=normalise)


def actfocus_gae(
    token_level_rewards: Tensor,
    response_mask: Tensor,
    values: Tensor | None = None,
    config: DictConfig | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation of PPO.

    Args:
        token_level_rewards: `(B, T)`.
        response_mask: `(B, T)`.
        values: `(B, T)` of the critic.
        config: veRL's `algorithm` section with `actfocus.weighting` in it; None uses γ = λ = 1.

    Returns:
        Advantages and returns, `(B, T)` each.

    Raises:
        ValueError: no values were passed (a trainer that does not know this name), or no `actfocus.weighting`.
    """
    _require_weighting(config, "actfocus_gae")
    if values is None:
        raise ValueError(
            "actfocus_gae needs the critic's values, which this trainer does not pass to a registered estimator; "
            "add +actfocus=default to the command line (it selects trainer.v1.trainer_mode=actfocus)"
        )
    gamma, lam = (1.0, 1.0) if config is None else (config.gamma, config.lam)
    return compute_gae_advantage_return(token_level_rewards, values, response_mask, gamma=gamma, lam=lam)


def _require_weighting(config: DictConfig | None, name: str) -> None:
    if config is not None and (config.get("actfocus") or {}).get("weighting") is None:
        raise ValueError(
            f"algorithm.adv_estimator={name} without algorithm.actfocus.weighting would train without token weights; "
            "add +actfocus=default to the command line"
        )
