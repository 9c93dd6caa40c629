"""A training batch as a weighting sees it, out of TransferQueue's columns."""

from __future__ import annotations

import torch
from tensordict import TensorDict
from torch import Tensor
from verl.workers.utils.padding import response_from_nested

from verl_actfocus.integration import fields
from verl_actfocus.weighting import TokenBatch, Weighting, turn_indices
from verl_actfocus.weighting.inputs import (
    ENGINE_INPUTS,
    ROLLOUT_INPUTS,
    VERL_INPUTS,
    Reader,
    engine_inputs,
    rollout_inputs,
)


def fields_to_weight(weighting: Weighting, *, bypass: bool) -> list[str]:
    """Name the fields that `token_batch` reads.

    Args:
        weighting: the scheme.
        bypass: whether veRL takes the rollout's log-probabilities for the old policy's
            (`rollout_correction.bypass_mode`).
    """
    return [fields.SPANS, "response_mask", "loss_mask", "advantages", *input_fields(weighting, bypass=bypass).values()]


def token_batch(data: TensorDict, weighting: Weighting, *, bypass: bool, by_rows: bool) -> TokenBatch:
    """Collect what a weighting may see.

    Args:
        data: the columns `fields_to_weight`, jagged: those of the engine over prompt and response, the others over the
            response.
        weighting: the scheme.
        bypass: as there.
        by_rows: whether every trajectory becomes a row, padded to the longest one: `(B, T)`. Else they follow one
            behind another, `(1, all tokens)`: lengths of episodes have a long tail, and most of a padded batch is
            padding.

    Returns:
        The batch, over response tokens.
    """
    stored = input_fields(weighting, bypass=bypass)
    columns = {name: data[name] for name in fields_to_weight(weighting, bypass=bypass)}
    for name in stored.values():
        if name.startswith(fields.INPUT_PREFIX):
            columns[name] = response_from_nested(data[name], data["response_mask"])
    if by_rows:
        values = {name: torch.nested.to_padded_tensor(column, 0) for name, column in columns.items()}
        turns = turn_indices(values["loss_mask"])
    else:
        values = {name: column.values().unsqueeze(0) for name, column in columns.items()}
        turns = torch.cat([turn_indices(row.unsqueeze(0)) for row in columns["loss_mask"].unbind()], dim=1)
    return TokenBatch(
        spans=values[fields.SPANS],
        # All that the model wrote: what rollout correction rejects leaves `response_mask`, and so the loss, but
        # stock veRL divides the loss by the tokens of `loss_mask`, and the weights take their place.
        response_mask=values["loss_mask"],
        turns=turns,
        advantages=torch.where(values["response_mask"].bool(), values["advantages"], 0.0),
        inputs={name: values[field] for name, field in stored.items()},
    )


def token_rows(values: Tensor, lengths: Tensor) -> list[Tensor]:
    """Take values of a `token_batch` apart.

    Args:
        values: `(B, T)` or `(1, all tokens)`.
        lengths: `(B,)` response tokens of every trajectory.

    Returns:
        The values of each trajectory, `(length,)`.
    """
    if len(values) == len(lengths):
        return [row[:length] for row, length in zip(values, lengths.tolist(), strict=True)]
    return list(values[0].split(lengths.tolist()))


def input_fields(reader: Reader, *, bypass: bool) -> dict[str, str]:
    """Return which field holds each input of a weighting or an estimator.

    Args:
        reader: it.
        bypass: as of `fields_to_weight`.
    """
    stored = {name: ROLLOUT_INPUTS[name].field for name in rollout_inputs(reader)}
    for name in engine_inputs(reader):
        from_rollout = ENGINE_INPUTS[name].bypass_field if bypass else None
        stored[name] = from_rollout or fields.INPUT_PREFIX + name
    return stored | {name: VERL_INPUTS[name] for name in reader.needs if name in VERL_INPUTS}
