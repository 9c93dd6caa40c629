"""Where tokens, weight and gradient lie: metrics that every weighting has."""

import torch
from torch import Tensor

from verl_actfocus.weighting.base import TokenBatch
from verl_actfocus.weighting.spans import Span


@torch.no_grad()
def share_metrics(batch: TokenBatch, weights: Tensor) -> dict[str, float]:
    """Summarise the weights of a batch by span.

    Args:
        batch: The training batch.
        weights: Its weights, shape (B, T), 0 outside the response mask.

    Returns:
        For each span `token_share/<span>`: share of the response tokens; `weight_share/<span>`: share of `Σ w`;
        `gradient_share/<span>`: share of `Σ w·|Â|`, what the first gradient step is spent on;
        `mean_weight/<span>`: mean weight of a token of the span; and the number of `action_tokens`. A share of
        nothing and the mean of no tokens are left out: where all advantages are 0, with GRPO in a step in which no
        prompt group has two different rewards, there is no gradient to share.
    """
    mask = batch.response_mask
    pull = weights * batch.advantages.abs()
    totals = (mask.sum().item(), weights[mask].sum().item(), pull[mask].sum().item())
    metrics = {}
    for span in Span:
        chosen = mask & (batch.spans == span)
        sums = (chosen.sum().item(), weights[chosen].sum().item(), pull[chosen].sum().item())
        name = span.name.lower()
        for kind, part, total in zip(("token", "weight", "gradient"), sums, totals, strict=True):
            if total:
                metrics[f"{kind}_share/{name}"] = part / total
        if sums[0]:
            metrics[f"mean_weight/{name}"] = sums[1] / sums[0]
    metrics["action_tokens"] = float((mask & (batch.spans == Span.ACTION)).sum().item())
    return metrics
