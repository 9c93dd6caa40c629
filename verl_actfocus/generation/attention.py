"""Attention of models with fewer heads of keys than of queries, without a copy of the keys for every head of queries.

With a mask, transformers repeats keys and values until there are as many as heads of queries
(`transformers/integrations/sdpa_attention.py`, `repeat_kv`). While decoding, that is a copy of the whole cache several
times over for every token, and most of the time. Queries that share a head of keys are queries of that head at further
places: nothing has to be repeated but the mask.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

#: Name among transformers' attention implementations.
NAME = "actfocus_shared_keys"


def share_keys(model: PreTrainedModel) -> None:
    """Let a model on a CPU with `sdpa` attention and fewer heads of keys than of queries attend so, in place."""
    config = model.config
    shares = config.num_key_value_heads < config.num_attention_heads
    if shares and config._attn_implementation == "sdpa" and model.device.type == "cpu":
        model.set_attn_implementation(NAME)


def require_full_attention(config: PretrainedConfig, length: int = 0) -> None:
    """Refuse models whose layers the cache of keys and values cannot serve, instead of generating something else.

    Args:
        config: of the model.
        length: most tokens of a sequence; a window that holds them all is none.

    Raises:
        ValueError: a layer sees less than all that came before, or is no attention; the message names the kinds.
    """
    layers, window = set(config.to_dict().get("layer_types") or ()), getattr(config, "sliding_window", None)
    if not layers and window is not None and window < length:
        layers = {f"sliding_attention of {window} tokens"}
    if layers - {"full_attention"}:
        raise ValueError(
            f"{config.name_or_path}: layers of the kinds {', '.join(sorted(layers))} are not generated with here; "
            "serve the model with vLLM (actor_rollout_ref.rollout.name=vllm in training, --endpoint in actfocus eval)"
        )


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention with transformers' signature of an attention implementation.

    Args:
        module: the attention layer.
        query: `(B, H, Q, D)`.
        key: `(B, K, L, D)`; `K` divides `H`, and the first `H / K` heads of queries share the first head of keys.
        value: `(B, K, L, D)`.
        attention_mask: `(B, 1, Q, L)` bool or added to the scores; without one, transformers' own function answers.
        dropout: probability.
        scaling: of the scores; None for `1 / √D`.
        kwargs: what transformers' `sdpa` takes besides.

    Returns:
        `(B, Q, H, D)` and None.
    """
    if attention_mask is None:
        return sdpa_attention_forward(module, query, key, value, None, dropout=dropout, scaling=scaling, **kwargs)
    rows, heads, places, size = query.shape
    groups = heads // key.shape[1]
    together = torch.nn.functional.scaled_dot_product_attention(
        query.reshape(rows, key.shape[1], groups * places, size),
        key,
        value,
        attn_mask=attention_mask.repeat(1, 1, groups, 1),
        dropout_p=dropout,
        scale=scaling,
    )
    return together.reshape(rows, heads, places, size).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
