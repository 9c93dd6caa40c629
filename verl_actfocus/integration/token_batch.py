"""A training batch as a weighting sees it, out of TransferQueue's columns."""

from __future__ import annotations

import torch
from tensordict import TensorDict
from verl.workers.utils.padding import response_from_nested

from verl_actfocus.integration import fields
from verl_actfocus.weighting import TokenBatch, Weighting, turn_indices
from verl_actfocus.weighting.inputs import ENGINE_INPUTS, ROLLOUT_INPUTS, engine_inputs, rollout_inputs


def fields_to_weight(weighting: Weighting, *, bypass: bool) -> list[str]:
    """Name the fields that `token_batch` reads.

    Args:
        weighting: the scheme.
        bypass: whether veRL takes the rollout's log-probabilities for the old policy's
            (`rollout_correction.bypass_mode`).
    """
    return [fields.SPANS, "response_mask", "loss_mask", "advantages", *_inputs(weighting, bypass).values()]


def token_batch(data: TensorDict, weighting: Weighting, *, bypass: bool) -> TokenBatch:
    """Pad what a weighting may see.

    Args:
        data: the columns `fields_to_weight`, jagged: those of the engine over prompt and response, the others over the
            response.
        weighting: the scheme.
        bypass: as there.

    Returns:
        The batch, `(B, T)` over the response tokens of the longest row.
    """
    stored = _inputs(weighting, bypass)
    columns = dict(data.items())
    for name in stored.values():
        if name.startswith(fields.INPUT_PREFIX):
            columns[name] = response_from_nested(data[name], data["response_mask"])
    padded = TensorDict(columns, batch_size=data.batch_size).to_padded_tensor()
    return TokenBatch(
        spans=padded[fields.SPANS],
        # All that the model wrote: what rollout correction rejects leaves `response_mask`, and so the loss, but
        # stock veRL divides the loss by the tokens of `loss_mask`, and the weights take their place.
        response_mask=padded["loss_mask"],
        turns=turn_indices(padded["loss_mask"]),
        advantages=torch.where(padded["response_mask"].bool(), padded["advantages"], 0.0),
        inputs={name: padded[field] for name, field in stored.items()},
    )


def _inputs(weighting: Weighting, bypass: bool) -> dict[str, str]:
    """Input of the weighting → field that holds it."""
    stored = {name: ROLLOUT_INPUTS[name] for name in rollout_inputs(weighting)}
    for name in engine_inputs(weighting):
        from_rollout = ENGINE_INPUTS[name].bypass_field if bypass else None
        stored[name] = from_rollout or fields.INPUT_PREFIX + name
    return stored
