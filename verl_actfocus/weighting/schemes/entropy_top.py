"""Train on the tokens where the policy was least sure (Wang et al. 2025, arXiv 2506.01939, the "80/20 rule")."""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from verl_actfocus.weighting._checks import first_position
from verl_actfocus.weighting.base import TokenBatch, Weighting, register_weighting


@register_weighting
@dataclass(frozen=True, kw_only=True)
class EntropyTop(Weighting):
    """`w_t = 1` on the response tokens of highest policy entropy, 0 on all others (arXiv 2506.01939).

    `H_t = -Σ_v p_v log p_v` under the policy before the update. Of the N response tokens of the training batch,
    all trajectories together, exactly `ceil(share · N)` are chosen; between equal entropies the earlier row of the
    batch decides, then the earlier token.

    The source takes `H_t` at the temperature of sampling; here it is at temperature 1 like every input of a
    weighting. At `rollout.temperature=1`, veRL's default, that is the same.
    """

    name = "entropy_top"
    reads_rows = False

    share: float = 0.2
    """Share of the response tokens that are trained on, in (0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("share", 0 < self.share <= 1, "must lie in (0, 1]")

    @property
    def needs(self) -> tuple[str, ...]:
        return ("old_entropy",)

    def weights(self, batch: TokenBatch) -> Tensor:
        """Return 1 on the chosen tokens, 0 elsewhere.

        Raises:
            ValueError: If the entropy of a response token is not finite.
        """
        entropy, mask = self.token_signal(batch), batch.response_mask
        place = first_position(mask & ~torch.isfinite(entropy))
        if place is not None:
            raise ValueError(f"the entropy of the token at {place} is not finite; look for logits that are NaN or +inf")
        # The share as the decimal that it is written as: in binary, 0.28 of 25 is a little more than 7.
        count = math.ceil(Fraction(str(self.share)) * int(mask.sum()))
        ranking = entropy[mask].argsort(descending=True, stable=True)
        chosen = torch.zeros_like(ranking, dtype=torch.float32)
        chosen[ranking[:count]] = 1.0
        return torch.zeros_like(mask, dtype=torch.float32).masked_scatter_(mask, chosen)

    def token_signal(self, batch: TokenBatch) -> Tensor:
        """Return the entropies."""
        return batch.input("old_entropy")

    def metrics(self, batch: TokenBatch, weights: Tensor) -> dict[str, float]:
        """Return `entropy_threshold`, the lowest entropy that is trained on; nothing for an empty batch."""
        chosen = self.token_signal(batch)[weights > 0]
        return {"entropy_threshold": chosen.min().item()} if chosen.numel() else {}
