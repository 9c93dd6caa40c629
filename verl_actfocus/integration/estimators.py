"""What veRL's other trainers get under the names of this package's estimators (`verl_actfocus.estimators`).

The names are the switch: `ActFocusTrainer` recognises them, estimates and adds the weights, and never calls these
functions. Run by any other trainer the weights would silently be missing, so without `algorithm.actfocus.weighting`
all of them refuse. `actfocus_grpo` and `actfocus_gae` are veRL's own advantages, and can be computed from what such a
trainer passes; the others need more, and always refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from verl.trainer.ppo.core_algos import compute_gae_advantage_return, compute_grpo_outcome_advantage

from verl_actfocus.estimators import ESTIMATORS, PREFIX, Place
from verl_actfocus.estimators.groups import without_level_groups


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
    require_weighting(config, "actfocus_grpo")
    normalise = True if config is None else config.get("norm_adv_by_std_in_grpo", True)
    advantages, _ = compute_grpo_outcome_advantage(
        token_level_rewards, response_mask, index, norm_adv_by_std_in_grpo=normalise
    )
    places = [Place(group, str(row), 0) for row, group in enumerate(index)]
    cleared = without_level_groups(places, token_level_rewards, list(advantages))
    advantages = advantages if cleared is None else torch.stack(cleared)
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
    require_weighting(config, "actfocus_gae")
    if values is None:
        raise ValueError(
            "actfocus_gae needs the critic's values, which this trainer does not pass to a registered estimator; "
            "add +actfocus=default to the command line (it selects trainer.v1.trainer_mode=actfocus)"
        )
    gamma, lam = (1.0, 1.0) if config is None else (config.gamma, config.lam)
    return compute_gae_advantage_return(token_level_rewards, values, response_mask, gamma=gamma, lam=lam)


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refuse(config: DictConfig | None = None, **kwargs: Any) -> NoReturn:
        require_weighting(config, name)
        raise ValueError(
            f"{name} reads what this trainer does not pass to a registered estimator; add +actfocus=default to the "
            "command line (it selects trainer.v1.trainer_mode=actfocus)"
        )

    return refuse


def require_weighting(config: DictConfig | None, name: str) -> None:
    """Refuse an estimator of this package without a weighting.

    Args:
        config: veRL's `algorithm` section; None, as in a call by hand, is not checked.
        name: value of `algorithm.adv_estimator`.

    Raises:
        ValueError: `algorithm.actfocus.weighting` is missing.
    """
    if config is not None and (config.get("actfocus") or {}).get("weighting") is None:
        raise ValueError(
            f"algorithm.adv_estimator={name} without algorithm.actfocus.weighting would train without token weights; "
            "add +actfocus=default to the command line"
        )


#: Value of `algorithm.adv_estimator` → function.
FUNCTIONS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    **{PREFIX + name: _refusing(PREFIX + name) for name in ESTIMATORS},
    "actfocus_grpo": actfocus_grpo,
    "actfocus_gae": actfocus_gae,
}
