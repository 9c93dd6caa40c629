"""veRL's own ways to what this package computes in another way, for benchmarks to compare with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla
from verl.utils.experimental.torch_functional import FusedLinearForPPO
from verl.utils.torch_functional import entropy_from_logits, entropy_from_logits_with_chunking, logprobs_from_logits
from verl.workers.config import ActorConfig

#: Clip ranges of the paper (He et al. 2026, App. C), veRL's dual clip.
CLIP_LOW, CLIP_HIGH, DUAL_CLIP = 0.2, 0.28, 3.0


@torch.no_grad()
def fused_log_probs(hidden: Tensor, matrix: Tensor, labels: Tensor) -> Tensor:
    """Log-probabilities `(N,)` of a fused forward pass at temperature 1, which computes the entropy too."""
    log_probs: Tensor = FusedLinearForPPO()(hidden, matrix, labels)[0]
    return log_probs


@torch.no_grad()
def log_probs_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probabilities `(N,)` of complete `(N, V)` logits."""
    log_probs: Tensor = logprobs_from_logits(logits, labels)
    return log_probs


def policy_loss_of(log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, response_mask: Tensor) -> Tensor:
    """veRL's clipped policy loss, the mean over the tokens of `(B, T)` tensors, with the clip ranges of the paper."""
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        use_dynamic_bsz=True,
        clip_ratio_low=CLIP_LOW,
        clip_ratio_high=CLIP_HIGH,
        clip_ratio_c=DUAL_CLIP,
    )
    # In veRL's order: its registry calls every policy loss like this.
    arguments = (old_log_prob, log_prob, advantages, response_mask, "token-mean", config, None)
    loss: Tensor = compute_policy_loss_vanilla(*arguments)[0]
    return loss


#: What `actor` settings choose → entropy `(N,)` of `(N, V)` logits and a chunk size.
ENTROPIES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "veRL's default": lambda logits, chunk_size: entropy_from_logits(logits),
    "entropy_from_logits_with_chunking": entropy_from_logits_with_chunking,
    "the same, entropy_checkpointing": lambda logits, chunk_size: checkpoint(
        entropy_from_logits_with_chunking, logits, chunk_size, use_reentrant=False
    ),
}
