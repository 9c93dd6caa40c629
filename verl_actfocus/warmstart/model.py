"""The tiny model: Qwen2's architecture at about a millionth of its usual cost.

Rotary positions matter here: with absolute ones a model of this size does not learn to look up a cell of the grid.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM


def build_model(tokenizer: PreTrainedTokenizerBase, *, seed: int) -> Qwen2ForCausalLM:
    """Build a freshly initialised model of about 0.9 million parameters.

    Args:
        tokenizer: Fixes the vocabulary and the special tokens.
        seed: Seed of the initial weights; the global generator is left as it was.

    Returns:
        The model in float32 and training mode.
    """
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attention_dropout=0.0,
        # Three times the usual width of the initial weights: at this size 0.02 leaves attention flat for so long that
        # looking a coordinate up is learnt several times later.
        initializer_range=0.06,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)
