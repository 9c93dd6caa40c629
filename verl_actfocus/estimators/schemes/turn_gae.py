"""GAE over turns: PPO whose steps are the turns of the episode and not its tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verl_actfocus.estimators.base import Estimate, Estimator, Rows, TrajectoryBatch, register_estimator
from verl_actfocus.estimators.turns import by_turn, on_tokens, returns_to_go, turns_of

#: Added to the variance that advantages are divided by, as veRL's `masked_whiten` does.
EPSILON = 1e-8


@register_estimator
@dataclass(frozen=True, kw_only=True)
class TurnGAE(Estimator):
    """`A_k = Σ_l (γλ)^l δ_{k+l}`, `δ_k = r_k + γ V_{k+1} - V_k`, k a turn (turn-level PPO, arXiv 2512.17008).

    `V_k` is the critic's value before the first token of the turn, `r_k` the turn's reward; γ and λ are
    `algorithm.gamma` and `algorithm.lam`. Every token of a turn has the turn's `A_k`, whitened over all tokens in the
    loss as veRL's GAE is. The critic's own loss is veRL's: it learns `A_k + V_k` on every token of the turn, so the
    values of later tokens are learnt, too, and read by nobody.
    """

    name = "turn_gae"
    base = "gae"

    @property
    def needs(self) -> tuple[str, ...]:
        return ("turn_rewards", "values")

    def estimate(self, batch: TrajectoryBatch) -> Estimate:
        """Return advantages and returns of the turns."""
        advantages: list[Tensor] = []
        returns: list[Tensor] = []
        columns = zip(batch.model_mask, batch.input("turn_rewards"), batch.input("values"), strict=True)
        for mask, rewards, values in columns:
            turns = turns_of(mask)
            value = by_turn(turns, torch.where(_first_tokens(turns), values.double(), 0.0))
            following = torch.cat([value[1:], value.new_zeros(1)])[: len(value)]
            delta = by_turn(turns, rewards.double()) + batch.gamma * following - value
            found = torch.tensor(returns_to_go(delta.tolist(), batch.gamma * batch.lam), dtype=torch.float64)
            advantages.append(on_tokens(turns, found))
            returns.append(on_tokens(turns, found + value).float())
        return Estimate(advantages=_whitened(advantages, batch.response_mask), returns=returns)


def _first_tokens(turns: Tensor) -> Tensor:
    """Flag the first token of every turn, `(T,)`."""
    before = torch.cat([turns.new_full((1,), -1), turns[:-1]])
    return (turns >= 0) & (turns != before)


def _whitened(advantages: list[Tensor], masks: Rows) -> list[Tensor]:
    """Give the tokens in the loss mean 0 and variance 1, `(T,)` float32 each; 0 on all others.

    A single token has nothing to be compared with, and stays as it is.
    """
    chosen = torch.cat([row[mask.bool()] for row, mask in zip(advantages, masks, strict=True)])
    mean, scale = 0.0, 1.0
    if len(chosen) > 1:
        mean, scale = chosen.mean().item(), (chosen.var().item() + EPSILON) ** -0.5
    return [
        torch.where(mask.bool(), (row - mean) * scale, 0.0).float() for row, mask in zip(advantages, masks, strict=True)
    ]
