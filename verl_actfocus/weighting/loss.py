"""The clipped policy loss with a weight per token, normalised by their sum (He et al. 2026, Eq. 6).

Apart from the weights, and from a batch without any (a loss of 0 here, 0/0 there), it is veRL's stock loss
operation by operation (`compute_policy_loss_vanilla` in `verl/trainer/ppo/core_algos.py`, aggregation
`token-mean`), so that weights of 1 give its value and gradient bit for bit: what differs between a Uniform
and an ActFocus run is the weights and nothing else.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from verl_actfocus.weighting._checks import (
    as_bool_mask,
    check_batch,
    check_floating,
    check_number,
    check_same_shape,
    first_position,
)

LOG_RATIO_LIMIT = 20.0
"""The log-ratio is clamped to ± this before it is exponentiated, as in veRL."""


class PolicyLossMetrics(NamedTuple):
    """Diagnostics over the response tokens, unweighted so that differently weighted runs compare."""

    clip_fraction: float
    """Share of tokens where the clipped ratio decides the loss."""
    approx_kl: float
    """Mean of `old_log_prob - log_prob`, an estimate of KL(old policy, new policy)."""
    clip_fraction_lower: float
    """Share of tokens where the dual clip decides the loss; 0 without a dual clip."""


class PolicyLoss(NamedTuple):
    """A policy loss and its diagnostics."""

    loss: Tensor
    """Scalar with gradient."""
    metrics: PolicyLossMetrics


def weighted_policy_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    weights: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    clip_c: float | None = None,
    normalizer: Tensor | float | None = None,
    importance_weights: Tensor | None = None,
) -> PolicyLoss:
    """Weighted clipped policy loss `-(sum w min(r A, clip(r) A)) / sum w` (He et al. 2026, Eq. 6).

    Args:
        log_prob: Log-probability of each token under the policy being trained, shape (B, T), with gradient.
        old_log_prob: The same under the policy that generated the tokens, shape (B, T).
        advantages: Advantages, shape (B, T).
        response_mask: 1 on response tokens, 0 elsewhere, shape (B, T). What stands at 0 is never read.
        weights: Token weights, finite and at least 0, shape (B, T); see
            `verl_actfocus.weighting.token_weights`.
        clip_low: The ratio is clipped from below at `1 - clip_low`.
        clip_high: The ratio is clipped from above at `1 + clip_high`.
        clip_c: Dual clip (Ye et al. 2020): the loss of a token of negative advantage is at most
            `clip_c * -A`. Greater than 1; None for no dual clip.
        normalizer: What the sum is divided by: the sum of the weights over the response tokens of the *whole*
            mini-batch, every rank and micro-batch. None: that sum over this batch. Data-parallel averaging is
            the caller's: multiply by the number of ranks where the framework averages gradients.
        importance_weights: Rollout-correction weights multiplied into each token's loss, shape (B, T),
            without gradient. They are not part of the normaliser.

    Returns:
        The loss and its metrics. When the normaliser is 0 no token has weight: the loss is exactly 0 and so
        is every gradient, never NaN, and the caller can skip the step and count it.

    Raises:
        ValueError: If shapes or dtypes differ from the above, a clip value is out of range, a weight of a
            response token is negative or not finite, the normaliser is negative or not finite, or it is 0
            although a token of this batch has weight.

    Example:
        >>> ones = torch.ones(1, 2)
        >>> weighted_policy_loss(-ones, -ones, ones, ones, ones, clip_low=0.2, clip_high=0.28).loss
        tensor(-1.)
    """
    check_number("clip_low", clip_low, low=0.0)
    check_number("clip_high", clip_high, low=0.0)
    if clip_c is not None:
        check_number("clip_c", clip_c, low=1.0, low_inclusive=False)
    response_BT = _checked_inputs(log_prob, old_log_prob, advantages, response_mask, weights, importance_weights)
    divisor = _divisor(weights, response_BT, normalizer)

    # Masked here and not only in the sum: a NaN in the padding would otherwise reach the gradient as 0 * NaN.
    log_ratio_BT = torch.where(response_BT, log_prob - old_log_prob, 0.0)
    log_ratio_BT = torch.clamp(log_ratio_BT, min=-LOG_RATIO_LIMIT, max=LOG_RATIO_LIMIT)
    loss_BT, clipped_BT, clipped_lower_BT = _clipped_loss(log_ratio_BT, advantages, clip_low, clip_high, clip_c)
    if importance_weights is not None:
        loss_BT = loss_BT * importance_weights
    loss_BT = loss_BT * weights.detach().to(loss_BT.dtype)

    if divisor is None:
        loss = torch.where(torch.zeros_like(response_BT), log_prob, 0.0).sum()  # zero, with a graph behind it
    else:
        total = _masked_sum(loss_BT, response_mask)
        loss = total / (divisor.to(total) if isinstance(divisor, Tensor) else divisor)
    metrics = PolicyLossMetrics(
        clip_fraction=_masked_mean(clipped_BT, response_mask),
        approx_kl=_masked_mean(-log_ratio_BT.detach(), response_mask),
        clip_fraction_lower=_masked_mean(clipped_lower_BT, response_mask),
    )
    return PolicyLoss(loss, metrics)


def _clipped_loss(
    log_ratio_BT: Tensor, advantages_BT: Tensor, clip_low: float, clip_high: float, clip_c: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Per token: the loss, whether clipping decides it, whether the dual clip does (floats 0 and 1)."""
    ratio_BT = torch.exp(log_ratio_BT)
    plain_BT = -advantages_BT * ratio_BT
    bounded_BT = -advantages_BT * torch.clamp(ratio_BT, 1 - clip_low, 1 + clip_high)
    loss_BT = torch.maximum(plain_BT, bounded_BT)
    clipped_BT = torch.gt(bounded_BT, plain_BT).float()
    if clip_c is None:
        return loss_BT, clipped_BT, torch.zeros_like(clipped_BT)
    ceiling_BT = -advantages_BT * clip_c
    clipped_lower_BT = torch.gt(loss_BT, ceiling_BT) * (advantages_BT < 0).float()
    dual_BT = torch.where(advantages_BT < 0, torch.min(ceiling_BT, loss_BT), loss_BT)
    return dual_BT, clipped_BT, clipped_lower_BT


def _divisor(weights_BT: Tensor, response_BT: Tensor, normalizer: Tensor | float | None) -> Tensor | float | None:
    """What the weighted sum is divided by, a scalar; None when that is 0.

    A number stays a number: on a GPU, dividing by a number and by a tensor need not round alike.
    """
    # float64 sums weights of 1 exactly, however many there are.
    local = torch.where(response_BT, weights_BT.detach(), 0.0).double().sum()
    divisor = local if normalizer is None else normalizer
    if isinstance(divisor, Tensor):
        if divisor.numel() != 1:
            raise ValueError(f"normalizer must be a single number, got shape {tuple(divisor.shape)}")
        divisor = divisor.detach().reshape(())
    value = divisor.item() if isinstance(divisor, Tensor) else divisor
    check_number("normalizer", value, low=0.0)
    if value > 0:
        return divisor
    if local > 0:
        raise ValueError(f"normalizer is 0 but the weights of this batch sum to {local.item():g}")
    return None


def _masked_sum(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Sum over the mask, ignoring what stands outside it (veRL, `masked_sum`)."""
    return (torch.where(mask_BT.bool(), values_BT, 0.0) * mask_BT).sum()


def _masked_mean(values_BT: Tensor, mask_BT: Tensor) -> float:
    """Mean over the mask; 0 for an empty one (veRL, `masked_mean`)."""
    return (_masked_sum(values_BT, mask_BT) / (mask_BT.sum() + 1e-8)).item()


def _checked_inputs(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    weights: Tensor,
    importance_weights: Tensor | None,
) -> Tensor:
    """Check the tensors of the loss; returns the response mask as booleans."""
    check_batch("log_prob", log_prob)
    floats = {
        "old_log_prob": old_log_prob,
        "advantages": advantages,
        "weights": weights,
        "importance_weights": importance_weights,
    }
    check_same_shape("log_prob", log_prob, {**floats, "response_mask": response_mask})
    for name, tensor in {"log_prob": log_prob, **floats}.items():
        if tensor is not None:
            check_floating(name, tensor)
    response_BT = as_bool_mask("response_mask", response_mask)
    place = first_position(response_BT & ~(torch.isfinite(weights) & (weights >= 0)))
    if place is not None:
        raise ValueError(f"weights must be finite and at least 0 on response tokens; not so at {place}")
    return response_BT
