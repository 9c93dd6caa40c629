"""GRPO: a trajectory's return, compared with those of its prompt group."""

from __future__ import annotations

from dataclasses import dataclass

from verl_actfocus.estimators.base import Estimate, Estimator, TrajectoryBatch, register_estimator
from verl_actfocus.estimators.groups import without_level_groups


@register_estimator
@dataclass(frozen=True, kw_only=True)
class GRPO(Estimator):
    """`A = (R - mean(R)) / (std(R) + 1e-6)` over the prompt group, on every token (Shao et al. 2024, arXiv 2402.03300).

    veRL's own numbers, bit for bit, but for groups with nothing to compare, whose advantage is 0
    (`verl_actfocus.estimators.groups`). `algorithm.norm_adv_by_std_in_grpo=False` divides by 1.
    """

    name = "grpo"
    base = "grpo"

    def estimate(self, batch: TrajectoryBatch) -> Estimate | None:
        """Return the advantages where a group is level; None elsewhere."""
        cleared = without_level_groups(batch.places, batch.rewards, batch.advantages)
        return None if cleared is None else Estimate(advantages=cleared, returns=cleared)
