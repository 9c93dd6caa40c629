"""Tutorial: a weighting of your own. Tokens of turns that were paid a negative reward weigh more.

A weighting is a frozen dataclass below `Weighting`: its fields are settings, `needs` names what it reads, `weights` is
the formula. Train with it, here in miniature on a CPU (`actfocus --module new_weighting compare` has it beside others):

    export VERL_USE_EXTERNAL_MODULES=new_weighting PYTHONPATH=examples VERL_PLATFORM=cpu
    python -m verl.trainer.main_ppo algorithm.adv_estimator=actfocus_grpo +actfocus=custom \
        algorithm.actfocus.weighting.name=penalised_turns +algorithm.actfocus.weighting.factor=3 \
        +actfocus/run=cpu_frozenlake +actfocus/device=cpu
"""

from dataclasses import dataclass

import torch

from verl_actfocus import TokenBatch, Weighting, register_weighting


@register_weighting
@dataclass(frozen=True, kw_only=True)
class PenalisedTurns(Weighting):
    """`w = factor` on the response tokens of a turn whose reward is negative, 1 on those of every other turn."""

    name = "penalised_turns"
    factor: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()  # checks the types
        self.require("factor", self.factor >= 0, "must be at least 0")

    @property
    def needs(self) -> tuple[str, ...]:
        return ("turns", "turn_rewards")

    def weights(self, batch: TokenBatch) -> torch.Tensor:
        reward = batch.sum_over_turns(batch.input("turn_rewards"))  # it stands on the last token of its turn
        return torch.where(reward < 0, self.factor, 1.0) * batch.response_mask
