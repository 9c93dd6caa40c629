"""GiGPO: GRPO on whole episodes, and once more among the steps that began in the same state."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from verl_actfocus.episodes.spread import spread
from verl_actfocus.estimators.base import Estimate, Estimator, TrajectoryBatch, register_estimator
from verl_actfocus.estimators.groups import without_level_groups
from verl_actfocus.estimators.turns import by_turn, on_tokens, returns_to_go, turns_of

#: Added to a standard deviation, as veRL's GRPO does.
EPSILON = 1e-6


@register_estimator
@dataclass(frozen=True, kw_only=True)
class GiGPO(Estimator):
    """`A = A_E + ω A_S` (Feng et al. 2025, arXiv 2505.10978).

    `A_E` is GRPO's advantage of the episode. A step is a turn; the steps of a prompt group that began with the same
    observation of the environment form a step group, and `A_S = (R_k - mean(R)) / (std(R) + 1e-6)` compares their
    discounted returns-to-go `R_k = Σ_{j≥k} γ^(j-k) r_j` over the turns. A state seen once has `A_S = 0`, and so have
    step groups whose returns do not differ. Every token of a step has the step's `A`.
    `algorithm.norm_adv_by_std_in_grpo=False` divides by 1 in both places.
    """

    name = "gigpo"
    base = "grpo"

    #: Weight of the advantage among steps, at least 0; with 0 the estimator is `grpo`.
    omega: float = 1.0
    #: Discount of the rewards of later turns, in [0, 1].
    gamma: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("omega", self.omega >= 0, "must be at least 0")
        self.require("gamma", 0 <= self.gamma <= 1, "must lie in [0, 1]")

    @property
    def needs(self) -> tuple[str, ...]:
        return ("turn_rewards", "anchor_states")

    def estimate(self, batch: TrajectoryBatch) -> Estimate:
        """Return the sum of both advantages, and `shared_state_share`.

        That metric is the share of the turns that began in a state in which another turn of the group began; absent
        from a batch without turns.
        """
        cleared = without_level_groups(batch.places, batch.rewards, batch.advantages)
        episode = batch.advantages if cleared is None else cleared
        turns = [turns_of(mask) for mask in batch.model_mask]
        step_groups = self._step_groups(batch, turns)
        step = [torch.zeros(int(row.max()) + 1 if len(row) else 0, dtype=torch.float64) for row in turns]
        for members in step_groups:
            for (row, turn), value in compared(members, divide_by_std=batch.divide_by_std).items():
                step[row][turn] = value
        advantages = [
            whole + self.omega * on_tokens(of_token, values).to(whole) * mask.to(whole)
            for whole, of_token, values, mask in zip(episode, turns, step, batch.response_mask, strict=True)
        ]
        sizes = [len(members) for members in step_groups]
        shared = {"shared_state_share": sum(size for size in sizes if size > 1) / sum(sizes)} if sizes else {}
        return Estimate(advantages=advantages, returns=advantages, metrics=shared)

    def _step_groups(self, batch: TrajectoryBatch, turns: list[Tensor]) -> list[dict[tuple[int, int], float]]:
        """Return (row, turn) → discounted return-to-go of the members of every step group."""
        groups: dict[tuple[str, int], dict[tuple[int, int], float]] = defaultdict(dict)
        columns = zip(batch.places, turns, batch.input("turn_rewards"), batch.input("anchor_states"), strict=True)
        for row, (place, of_token, rewards, states) in enumerate(columns):
            returns = returns_to_go(by_turn(of_token, rewards.double()).tolist(), self.gamma)
            for turn, (state, value) in enumerate(zip(by_turn(of_token, states).tolist(), returns, strict=True)):
                groups[place.group, state][row, turn] = value
        return list(groups.values())


def compared(returns: dict[tuple[int, int], float], *, divide_by_std: bool) -> dict[tuple[int, int], float]:
    """Compare the returns of a step group as GRPO does; all are 0 where they differ by rounding alone.

    Args:
        returns: member → return, at least one.
        divide_by_std: by the sample standard deviation (veRL's, over n - 1) instead of 1.
    """
    values = torch.tensor(list(returns.values()), dtype=torch.float64)
    if spread(values.tolist()) == 0:
        return dict.fromkeys(returns, 0.0)
    centred = values - values.mean()
    scaled = centred / (values.std() + EPSILON) if divide_by_std else centred
    return dict(zip(returns, scaled.tolist(), strict=True))
