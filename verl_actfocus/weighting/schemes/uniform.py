"""Uniform weights: every response token the same, the stock policy loss."""

from dataclasses import dataclass

from torch import Tensor

from verl_actfocus.weighting.base import TokenBatch, Weighting, register_weighting


@register_weighting
@dataclass(frozen=True, kw_only=True)
class Uniform(Weighting):
    """`w_t = 1` on every response token: value and gradient of veRL's stock loss, bit for bit.

    The baseline of He et al. 2026, there written as α = 1, β = 0.
    """

    name = "uniform"
    reads_rows = False

    def weights(self, batch: TokenBatch) -> Tensor:
        """Return 1 on response tokens, 0 elsewhere."""
        return batch.response_mask.float()
