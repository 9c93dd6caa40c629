"""veRL's own ways to what this package computes in another way, for benchmarks to compare with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from verl.utils.experimental.torch_functional import FusedLinearForPPO
from verl.utils.torch_functional import entropy_from_logits, entropy_from_logits_with_chunking, logprobs_from_logits


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


#: What `actor` settings choose → entropy `(N,)` of `(N, V)` logits and a chunk size.
ENTROPIES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "veRL's default": lambda logits, chunk_size: entropy_from_logits(logits),
    "entropy_from_logits_with_chunking": entropy_from_logits_with_chunking,
    "the same, entropy_checkpointing": lambda logits, chunk_size: checkpoint(
        entropy_from_logits_with_chunking, logits, chunk_size, use_reentrant=False
    ),
}
