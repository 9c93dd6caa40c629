"""The advantage estimators `actfocus_grpo` and `actfocus_gae`: veRL's own advantages.

Weighting changes how an advantage is *distributed* over tokens and happens in the loss (He et al. 2026, Eq. 6), so
there is nothing to change here, but for groups that GRPO has nothing to compare in: their advantage is 0
(`verl_actfocus.integration.groups`). The names are the switch: `ActFocusTrainer` recognises them and adds the
weights. Run by any other trainer they would silently be without, so without `algorithm.actfocus.weighting` they
refuse.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from verl.trainer.ppo.core_algos import compute_gae_advantage_return, compute_grpo_outcome_advantage

from verl_actfocus.integration.groups import groups_without_spread


def actfocus_grpo(
    token_level_rewards: Tensor,
    response_mask: Tensor,
    index: np.ndarray,
    config: DictConfig | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Group-normalised outcome advantages of GRPO; 0 in a group whose returns do not differ, or that has one response.

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
    advantages, _ = compute_grpo_outcome_advantage(
        token_level_rewards, response_mask, index, norm_adv_by_std_in_grpo=normalise
    )
    returns = defaultdict(list)
    for group, value in zip(index, token_level_rewards.double().sum(dim=-1).tolist(), strict=True):
        returns[group].append(value)
    level = groups_without_spread(returns)
    rows = torch.tensor([group in level for group in index], device=advantages.device)
    advantages = torch.where(rows.unsqueeze(-1), 0.0, advantages)
    return advantages, advantages


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
