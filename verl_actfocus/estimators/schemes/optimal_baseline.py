"""veRL's optimal token baselines: one baseline for each position of a prompt group, of least variance."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from verl_actfocus.episodes.spread import rounding
from verl_actfocus.estimators.base import Estimate, Estimator, TrajectoryBatch, register_estimator


@register_estimator
@dataclass(frozen=True, kw_only=True)
class OptimalTokenBaseline(Estimator):
    """`A_t = G_t - B_t`, `B_t = Σ G_t W_t / Σ W_t` over the prompt group, `W_t = Σ_{j≤t} (1 - 2 π_j + Σ_v π_j(v)²)`.

    `G_t` is the return from token t on, π the policy before the update. The numbers are those of veRL's
    `compute_optimal_token_baseline_advantage` (`verl/trainer/ppo/core_algos.py`), which compares tokens at the same
    place of the padded response, the environment's included; `tir_optimal_token_baseline` counts the model's alone.
    An advantage that rounding alone makes differ from 0 is 0.

    veRL takes the probabilities at the rollout's temperature, here they are at temperature 1 like every input; at
    `rollout.temperature=1` that is the same. Rollout importance weights, where the run computes them, scale `W_t`.
    """

    name = "optimal_token_baseline"
    base = "grpo"

    #: Whether the longest trajectory of a group has no baseline where it alone goes on, so that its last tokens have
    #: their return for an advantage. veRL's default.
    handle_zero_tail: bool = True

    @property
    def needs(self) -> tuple[str, ...]:
        return ("old_log_prob", "old_sum_pi_squared", "rollout_is_weights")

    def estimate(self, batch: TrajectoryBatch) -> Estimate:
        """Return veRL's advantages and returns.

        Raises:
            ValueError: the batch comes without veRL.
        """
        if batch.stock is None:
            raise ValueError(f"{self.name} is veRL's own estimator, and this batch has none of veRL's")
        inputs = {
            "old_log_probs": batch.input("old_log_prob"),
            "sum_pi_squared": batch.input("old_sum_pi_squared"),
            **{name: batch.inputs[name] for name in ("rollout_is_weights",) if name in batch.inputs},
        }
        found = batch.stock(self.name, inputs=inputs, handle_zero_tail=self.handle_zero_tail)
        largest = max((row.abs().max().item() for row in found.returns if len(row)), default=0.0)
        advantages = [torch.where(row.abs() > rounding(largest), row, 0.0) for row in found.advantages]
        return Estimate(advantages=advantages, returns=found.returns)


@register_estimator
@dataclass(frozen=True, kw_only=True)
class MultiTurnOptimalTokenBaseline(OptimalTokenBaseline):
    """The same over the model's tokens alone: token t is the t-th that the model wrote, whatever stands between.

    veRL's `compute_multi_turn_optimal_token_baseline_advantage`.
    """

    name = "tir_optimal_token_baseline"
