"""Every turn of a trajectory carries the same total weight, so that long turns do not drown short ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from verl_actfocus.weighting.base import TokenBatch, Weighting, register_weighting


@register_weighting
@dataclass(frozen=True, kw_only=True)
class TurnBalanced(Weighting):
    """`w_t = n / (K · n_k)` on each of the `n_k` response tokens of turn `k`.

    `n` is the number of response tokens of the trajectory, `K` of its turns that have any. Each turn weighs
    `n / K`. A trajectory weighs `n` in total, as it does in the stock loss: trajectories compare to each other as
    before, and a trajectory of one turn has weights of 1. This project's own, as a baseline between uniform weights
    and weights by span.
    """

    name = "turn_balanced"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("turns",)

    def weights(self, batch: TokenBatch) -> Tensor:
        """Return the weights; whole numbers of tokens are divided in float64."""
        present = batch.response_mask.double()
        of_turn = batch.sum_over_turns(present)
        shares = torch.where(batch.response_mask, present / of_turn, 0)
        tokens = present.sum(dim=1, keepdim=True)
        turns = shares.sum(dim=1, keepdim=True).round()
        return torch.where(batch.response_mask, tokens / (turns * of_turn), 0).float()
