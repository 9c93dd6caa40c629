"""Names under which this package's data travels through veRL: TransferQueue fields and batch entries.

All per-token fields but the engine's have one value per response token of a trajectory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tensordict import NonTensorData
from torch import Tensor

from verl_actfocus.weighting.inputs import ROLLOUT_INPUTS

#: `verl_actfocus.weighting.Span` of each response token, int64.
SPANS = "actfocus_spans"
#: Reward of each turn on the last token of the turn, float32.
TURN_REWARDS = ROLLOUT_INPUTS["turn_rewards"].field
#: State that each turn began in, on the last token of the turn, int64, where an estimator or a weighting asks for it.
ANCHOR_STATES = ROLLOUT_INPUTS["anchor_states"].field
#: The `EpisodeRecord` of a trajectory as JSON, of the steps whose trajectories are written to disk.
EPISODE = "actfocus_episode"
#: Weight of each response token, float32.
WEIGHTS = "actfocus_weights"
#: Batch entry: sum of the weights over the optimizer step's global mini-batch.
WEIGHT_SUM = "actfocus_weight_sum"
#: Batch entry: what the loss is divided by instead, the same for every mini-batch of a training step.
FIXED_NORMALIZER = "actfocus_fixed_normalizer"
#: Batch flag: every micro-batch is normalised by its own weights.
NORMALIZE_MICRO_BATCHES = "actfocus_normalize_micro_batches"
#: Batch entry: micro-batches of the global mini-batch over all ranks, if each is normalised by its own weights.
MICRO_BATCHES = "actfocus_micro_batches"
#: Batch flag: the loss is divided by the response tokens of the global mini-batch, as veRL's stock loss is.
NORMALIZE_BY_TOKENS = "actfocus_normalize_by_tokens"
#: Batch entry: training step whose first mini-batch the engine shall report the gradients of.
GRADIENT_REPORT = "actfocus_gradient_report"
#: Batch flag: the loss is the policy loss without entropy and KL terms.
POLICY_LOSS_ALONE = "actfocus_policy_loss_alone"
#: Batch flag: comma-separated inputs (`verl_actfocus.weighting.inputs.ENGINE_INPUTS`) that a forward pass shall add.
INPUTS = "actfocus_inputs"
#: Batch flag: a pass without gradient shall compute the prompt that trajectories share once.
SHARE_PROMPTS = "actfocus_share_prompts"
#: Prefix under which the engine stores an input, over prompt and response like veRL's `log_probs`.
INPUT_PREFIX = "actfocus_input_"


def plain(column: Iterable[Any]) -> list[Any]:
    """Return a column that is no tensor per token as plain values, however TransferQueue's backend has wrapped them."""
    values = (item.data if isinstance(item, NonTensorData) else item for item in column)
    return [value.item() if isinstance(value, Tensor) else value for value in values]
