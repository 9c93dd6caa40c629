"""Generalised advantage estimation of PPO, token by token."""

from __future__ import annotations

from dataclasses import dataclass

from verl_actfocus.estimators.base import Estimate, Estimator, TrajectoryBatch, register_estimator


@register_estimator
@dataclass(frozen=True, kw_only=True)
class GAE(Estimator):
    """`A_t = Σ_l (γλ)^l δ_{t+l}`, `δ_t = r_t + γ V_{t+1} - V_t`, whitened (Schulman et al. 2016, arXiv 1506.02438).

    veRL's own numbers, bit for bit, with its `algorithm.gamma` and `algorithm.lam`.
    """

    name = "gae"
    base = "gae"

    def estimate(self, batch: TrajectoryBatch) -> Estimate | None:
        """Return None: veRL's stand."""
        return None
