"""The weighted policy loss inside veRL's actor loss.

veRL's actor loss (`verl/workers/utils/losses.py`, `ppo_loss`) adds the entropy and KL terms to a registered
policy loss, but hands that one a fixed list of fields. `actfocus_ppo_loss` is set as the actor's loss function: it
puts the token weights aside, calls `ppo_loss`, and the registered policy loss `actfocus` picks them up.
Regularisers, metrics and everything else stay veRL's own code and unweighted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from omegaconf import DictConfig
from tensordict import TensorDict
from torch import Tensor
from verl.utils.metric import AggregationType, Metric
from verl.workers.config import ActorConfig
from verl.workers.utils.losses import ppo_loss

from verl_actfocus.config.compatibility import LOSS_NAME, REFUSED_AGG_MODES
from verl_actfocus.integration import fields
from verl_actfocus.weighting import weighted_policy_loss

#: Metric of the actor: 1 for a mini-batch without any weight, whose update is skipped; veRL averages it over the step.
SKIPPED_METRIC = "actfocus/skipped_update_share"


@dataclass(frozen=True)
class _MicroBatchWeights:
    """Weights `(B, T)` of one micro-batch, and what the loss is divided by (0: nothing has weight)."""

    weights: Tensor
    normalizer: float


_current: ContextVar[_MicroBatchWeights | None] = ContextVar("actfocus_weights", default=None)


@contextmanager
def _weights_of(data: TensorDict) -> Iterator[_MicroBatchWeights]:
    if fields.WEIGHTS not in data:
        raise RuntimeError(
            "the batch carries no token weights: the ActFocus loss runs under trainer.v1.trainer_mode=actfocus only"
        )
    weights = data.select(fields.WEIGHTS).to_padded_tensor()[fields.WEIGHTS]
    current = _MicroBatchWeights(weights, _normalizer(weights, data))
    token = _current.set(current)
    try:
        yield current
    finally:
        _current.reset(token)


def normalizer_entries(normalize_over: str, weight_sum: float, mini_batches: int) -> dict[str, Any]:
    """Return the entries of a batch that say what its loss is divided by, where it is not the mini-batch's weights.

    Args:
        normalize_over: `algorithm.actfocus.normalize_over`.
        weight_sum: sum of the weights of the training step.
        mini_batches: number of its mini-batches.
    """
    match normalize_over:
        case "batch":
            return {fields.FIXED_NORMALIZER: weight_sum / mini_batches}
        case "micro_batch":
            return {fields.NORMALIZE_MICRO_BATCHES: True}
        case "tokens":
            return {fields.NORMALIZE_BY_TOKENS: True}
    return {}


def _normalizer(weights: Tensor, data: TensorDict) -> float:
    """What the weighted sum of a micro-batch is divided by, see `algorithm.actfocus.normalize_over`."""
    if fields.MICRO_BATCHES in data:
        # The weighted mean of every micro-batch by itself, averaged over micro-batches.
        return weights.double().sum().item() * data[fields.MICRO_BATCHES]
    if fields.FIXED_NORMALIZER in data:
        return data[fields.FIXED_NORMALIZER]
    if fields.NORMALIZE_BY_TOKENS in data:
        return data["batch_num_tokens"]  # of all ranks; veRL's engine sets it
    return data[fields.WEIGHT_SUM]


def actfocus_ppo_loss(
    config: ActorConfig, model_output: dict[str, Tensor], data: TensorDict, dp_group: Any = None
) -> tuple[Tensor, dict[str, Any]]:
    """veRL's `ppo_loss` with the token weights of the micro-batch in reach of the policy loss.

    Args:
        config: actor configuration with `policy_loss.loss_mode=actfocus`.
        model_output: per-token outputs of the forward pass (`log_probs`, `entropy`).
        data: micro-batch with the field `fields.WEIGHTS` and the entry `fields.WEIGHT_SUM`, which the loss is divided
            by unless there is an entry `fields.FIXED_NORMALIZER`, `fields.MICRO_BATCHES` or
            `fields.NORMALIZE_BY_TOKENS`; with the entry `fields.POLICY_LOSS_ALONE` there is no KL term (and no entropy
            term if `entropy` is not among the outputs).
        dp_group: data-parallel process group, unused as in veRL.

    Returns:
        Scalar loss for `backward` and metrics.

    Raises:
        RuntimeError: the batch carries no weights.
    """
    if fields.POLICY_LOSS_ALONE in data:
        config = replace(config, use_kl_loss=False)
    with _weights_of(data):
        loss, metrics = ppo_loss(config, model_output, data, dp_group)
    skipped = float(data[fields.WEIGHT_SUM] == 0)
    metrics[SKIPPED_METRIC] = Metric(value=skipped, aggregation=AggregationType.MAX)
    return loss, metrics


def policy_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: DictConfig | ActorConfig | None = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Weighted clipped policy loss, with veRL's signature of a policy loss (He et al. 2026, Eq. 6).

    The clipping, the dual clip and the rollout importance weights are those of veRL's `compute_policy_loss_vanilla`.

    Args:
        old_log_prob: `(B, T)` log-probabilities under the policy before the update.
        log_prob: `(B, T)` log-probabilities under the policy in training.
        advantages: `(B, T)`.
        response_mask: `(B, T)` bool.
        loss_agg_mode: `token-mean` (Σ over the global mini-batch) or `seq-mean-token-mean` (the weighted mean of
            each response, averaged over responses).
        config: actor configuration; clip ranges and `global_batch_info` are read.
        rollout_is_weights: `(B, T)` importance weights between rollout and training policy, multiplied in.

    Returns:
        Scalar loss and metrics.

    Raises:
        RuntimeError: called outside `actfocus_ppo_loss`, so without token weights.
        ValueError: `loss_agg_mode` has no weighted mean.
    """
    current = _current.get()
    if config is None or current is None:
        raise RuntimeError(
            f"policy_loss.loss_mode={LOSS_NAME} found no token weights; it is part of trainer.v1.trainer_mode=actfocus "
            "(add +actfocus=default to the command line)"
        )
    if loss_agg_mode in REFUSED_AGG_MODES:
        raise ValueError(f"loss_agg_mode={loss_agg_mode} cannot be weighted: {REFUSED_AGG_MODES[loss_agg_mode]}")
    info = config.global_batch_info
    weights, normalizer = current.weights, current.normalizer
    if loss_agg_mode == "seq-mean-token-mean":
        # Each response is normalised by its own weights; a response without any contributes nothing. As in veRL, what
        # rollout correction has rejected counts in no mean over a response.
        weights = torch.where(response_mask, weights, 0.0)
        sums = weights.sum(dim=1, keepdim=True)
        weights = torch.where(sums > 0, weights / sums, 0.0)
        normalizer = float(info["global_batch_size"])
    result = weighted_policy_loss(
        log_prob,
        old_log_prob,
        advantages,
        response_mask,
        weights,
        clip_low=config.clip_ratio_low if config.clip_ratio_low is not None else config.clip_ratio,
        clip_high=config.clip_ratio_high if config.clip_ratio_high is not None else config.clip_ratio,
        clip_c=config.get("clip_ratio_c", 3.0),
        normalizer=normalizer,
        importance_weights=rollout_is_weights,
    )
    metrics = {
        "actor/pg_clipfrac": result.metrics.clip_fraction,
        "actor/ppo_kl": result.metrics.approx_kl,
        "actor/pg_clipfrac_lower": result.metrics.clip_fraction_lower,
    }
    # FSDP averages gradients over the ranks, the normaliser already counts all of them.
    return result.loss * info["dp_size"], metrics
