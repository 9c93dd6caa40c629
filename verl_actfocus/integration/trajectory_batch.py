"""A training batch as an estimator sees it, out of TransferQueue's columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig
from tensordict import TensorDict
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from verl.trainer.ppo.core_algos import get_adv_estimator_fn
from verl.workers.utils.padding import response_from_nested

from verl_actfocus.estimators import Estimate, Estimator, TrajectoryBatch
from verl_actfocus.estimators.base import Rows
from verl_actfocus.integration import fields
from verl_actfocus.integration.groups import place_of
from verl_actfocus.integration.token_batch import input_fields


def reward_field(algorithm: DictConfig) -> str:
    """Name the field of each token's reward: with the KL penalty where it is a part of the reward."""
    return "token_level_rewards" if algorithm.use_kl_in_reward else "rm_scores"


def fields_to_estimate(estimator: Estimator, algorithm: DictConfig, *, bypass: bool) -> list[str]:
    """Name the fields that `trajectory_batch` reads, as far as the run has them.

    Args:
        estimator: the estimator.
        algorithm: veRL's section.
        bypass: as of `verl_actfocus.integration.token_batch.fields_to_weight`.
    """
    own = input_fields(estimator, bypass=bypass).values()
    return [reward_field(algorithm), "response_mask", "loss_mask", "advantages", *own]


def trajectory_batch(
    keys: Sequence[str], data: TensorDict, estimator: Estimator, algorithm: DictConfig, *, bypass: bool
) -> TrajectoryBatch:
    """Collect what an estimator may see.

    Args:
        keys: of the rows.
        data: the columns `fields_to_estimate`, jagged: those of the engine over prompt and response, the others over
            the response.
        estimator: the estimator.
        algorithm: veRL's section.
        bypass: as there.
    """
    places = [place_of(key) for key in keys]
    rewards, mask = data[reward_field(algorithm)].unbind(), data["response_mask"].unbind()

    def stock(name: str, *, inputs: Mapping[str, Rows], **settings: Any) -> Estimate:
        lengths = [len(row) for row in mask]
        groups = np.array([place.group for place in places], dtype=object)
        advantages, returns = get_adv_estimator_fn(name)(
            token_level_rewards=_padded(rewards),
            response_mask=_padded(mask),
            index=groups,
            **{column: _padded(rows) for column, rows in inputs.items()},
            **settings,
        )
        return Estimate(advantages=_rows(advantages, lengths), returns=_rows(returns, lengths))

    inputs = {}
    for name, field in input_fields(estimator, bypass=bypass).items():
        if field in data:
            column = data[field]
            if field.startswith(fields.INPUT_PREFIX):
                column = response_from_nested(column, data["response_mask"])
            inputs[name] = column.unbind()
    return TrajectoryBatch(
        places=places,
        rewards=rewards,
        model_mask=data["loss_mask"].unbind(),
        response_mask=mask,
        advantages=data["advantages"].unbind(),
        inputs=inputs,
        gamma=algorithm.gamma,
        lam=algorithm.lam,
        divide_by_std=algorithm.get("norm_adv_by_std_in_grpo", True),
        stock=stock,
    )


def _padded(rows: Rows) -> Tensor:
    return pad_sequence(list(rows), batch_first=True)


def _rows(values: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """Take `(B, T)` values apart; copies, so that no row keeps the padding in memory."""
    return [row[:length].clone() for row, length in zip(values.float(), lengths, strict=True)]
