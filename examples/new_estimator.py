"""Tutorial: an advantage estimator of your own. A response is compared with the others of its group alone.

An estimator is a frozen dataclass below `Estimator`: its fields are settings, `base` is veRL's estimator that runs
before it, `needs` names what it reads beside the rewards, `estimate` is the formula. Beside GRPO, with the weights of
ActFocus and without, here in miniature on a CPU:

    PYTHONPATH=examples actfocus --module new_estimator compare --estimators grpo 'leave_one_out scale=0.5' \
        --weightings uniform actfocus
"""

from dataclasses import dataclass

import torch

from verl_actfocus.estimators import Estimate, Estimator, TrajectoryBatch, register_estimator


@register_estimator
@dataclass(frozen=True, kw_only=True)
class LeaveOneOut(Estimator):
    """`A = scale · (R − mean R of the others of the group)` on every token (RLOO, arXiv 2402.14740); 0 alone."""

    name = "leave_one_out"
    base = "grpo"
    scale: float = 1.0

    def estimate(self, batch: TrajectoryBatch) -> Estimate:
        returns = torch.stack([row.sum() for row in batch.rewards])
        groups = [place.group for place in batch.places]
        advantages = []
        for row, (group, mask) in enumerate(zip(groups, batch.response_mask, strict=True)):
            others = [place for place, other in enumerate(groups) if other == group and place != row]
            difference = returns[row] - returns[others].mean() if others else torch.tensor(0.0)
            advantages.append(self.scale * difference * mask.float())
        return Estimate(advantages=advantages, returns=advantages)
