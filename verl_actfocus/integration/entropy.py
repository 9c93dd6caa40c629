"""Entropy of the update in chunks that are computed again in the backward pass.

veRL's `entropy_from_logits_with_chunking` bounds the working memory of the forward pass alone: autograd keeps the
probabilities of every chunk, and a float32 copy of the logits besides if they are bfloat16, 8 bytes for each logit.
`entropy_checkpointing` moves these to the backward pass. Here nothing is kept but the logits, which the
log-probabilities keep anyway, and one number a row; the gradient is written chunk by chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def recomputed_entropy(logits: Tensor, chunk_size: int = 2048) -> Tensor:
    """Entropy of next-token distributions, `H = logsumexp(x) - sum_v p_v x_v`, differentiable once.

    Args:
        logits: `(N, V)`, any floating dtype.
        chunk_size: rows that are handled at a time, in float32.

    Returns:
        `(N,)` float32, bit for bit that of veRL's `entropy_from_logits_with_chunking`.
    """
    entropy: Tensor = _RecomputedEntropy.apply(logits, chunk_size)
    return entropy


class _RecomputedEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, chunk_size: int) -> Tensor:
        entropy = logits.new_empty(len(logits), dtype=torch.float32)
        means = torch.empty_like(entropy)
        for start in range(0, len(logits), chunk_size):
            rows = slice(start, start + chunk_size)
            wide = logits[rows].float()
            means[rows] = wide.softmax(dim=-1).mul_(wide).sum(dim=-1)
            entropy[rows] = torch.logsumexp(wide, dim=-1) - means[rows]
        ctx.save_for_backward(logits, means)
        ctx.chunk_size = chunk_size
        return entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        """`dH/dx_v = -p_v (x_v - sum_u p_u x_u)`."""
        logits, means = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for start in range(0, len(logits), ctx.chunk_size):
            rows = slice(start, start + ctx.chunk_size)
            wide = logits[rows].float()
            slope = wide.softmax(dim=-1)
            slope *= outer[rows].neg().unsqueeze(1)
            gradient[rows] = slope.mul_(wide - means[rows].unsqueeze(1))
        return gradient, None
