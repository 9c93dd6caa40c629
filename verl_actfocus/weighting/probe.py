"""A weighting is tried on a few drawn trajectories before anything is built: one of one's own may fail on any batch."""

from __future__ import annotations

import torch
from torch import Tensor

from verl_actfocus.weighting.base import BATCH_FIELDS, TokenBatch, Weighting, compute_weights, turn_indices
from verl_actfocus.weighting.inputs import ENGINE_INPUTS, ROLLOUT_INPUTS
from verl_actfocus.weighting.spans import Span

#: Spans of two kinds of trajectories, of several turns and of one; a dot is the environment's or padding, `-` a tag.
_SPANS = (8 * "-rr-aa-.", "-" + 20 * "r" + "-" + 10 * "a" + "-" + 31 * ".")
_TRAJECTORIES = 4
_LETTERS = {"r": Span.REASONING, "a": Span.ACTION, "-": Span.NONE, ".": Span.NONE}
#: Entries of the vocabulary from whose logits the inputs are taken.
_VOCABULARY = 11


def try_weighting(weighting: Weighting) -> None:
    """Compute the weights of eight trajectories of 64 tokens.

    Raises:
        ValueError: the weighting fails, its weights are not what the loss can take (`compute_weights`), or they depend
            on which tokens are of one trajectory though `reads_rows` says that they do not. The message names it.
    """
    batch = _batch(weighting)
    try:
        weights = compute_weights(weighting, batch)
        in_one_row = weights if weighting.reads_rows else compute_weights(weighting, _in_one_row(batch))
    except ValueError as error:
        raise ValueError(f"{error} (tried on eight trajectories of 64 tokens)") from error
    except Exception as error:  # any: it is the user's code, and what the sentence says
        raise ValueError(
            f"the weighting {weighting.name!r} fails on eight trajectories of 64 tokens: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not torch.allclose(weights, in_one_row.view_as(weights)):
        raise ValueError(
            f"the weighting {weighting.name!r} says reads_rows=False, but its weights are others when trajectories "
            "stand one behind another in one row; set reads_rows=True"
        )


def _in_one_row(batch: TokenBatch) -> TokenBatch:
    """As a trainer gives the trajectories to a weighting that does not read rows."""
    columns = {name: getattr(batch, name).reshape(1, -1) for name in (*BATCH_FIELDS, "response_mask")}
    return TokenBatch(**columns, inputs={name: value.reshape(1, -1) for name, value in batch.inputs.items()})


def _batch(weighting: Weighting) -> TokenBatch:
    spans = torch.tensor([[int(_LETTERS[letter]) for letter in row] for row in _TRAJECTORIES * _SPANS])
    mask = torch.tensor([[letter != "." for letter in row] for row in _TRAJECTORIES * _SPANS])
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(spans.numel(), _VOCABULARY, generator=generator)
    labels = torch.randint(_VOCABULARY, (spans.numel(),), generator=generator)
    inputs: dict[str, Tensor] = {}
    for name in weighting.needs:
        if name in ENGINE_INPUTS:
            inputs[name] = ENGINE_INPUTS[name].function(logits, labels).view_as(spans) * mask
        elif name in ROLLOUT_INPUTS:
            inputs[name] = mask.to(ROLLOUT_INPUTS[name].dtype)
    return TokenBatch(
        spans=spans,
        response_mask=mask,
        turns=turn_indices(mask),
        advantages=torch.tensor(_TRAJECTORIES * [[1.0], [-0.5]]) * mask,
        inputs=inputs,
    )
