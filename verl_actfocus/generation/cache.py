"""Keys and values of sequences that share a batch: one preallocated slot for each."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel


class SlotCache:
    """Keys and values of all slots, shaped for transformers' attention modules.

    One tensor per layer, `(slots, kv heads, positions, head dimension)`. `update` has the signature that the models
    of transformers call (`transformers/cache_utils.py`, `Cache.update`); where to write is set by `select` before
    each forward pass.
    """

    def __init__(self, model: PreTrainedModel, slots: int, positions: int) -> None:
        config = model.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (slots, config.num_key_value_heads, positions, head_dim)
        like = next(model.parameters())
        self.keys = [like.new_zeros(shape) for _ in range(config.num_hidden_layers)]
        self.values = [like.new_zeros(shape) for _ in range(config.num_hidden_layers)]
        self._rows = torch.empty(0, dtype=torch.long)
        self._positions = torch.empty(0, dtype=torch.long)
        self._length = 0
        self._run: slice | None = None

    def select(self, rows: torch.Tensor, positions: torch.Tensor, length: int) -> None:
        """Choose the slots `(B,)`, the positions `(B, Q)` to write, and how many positions attention sees."""
        self._rows, self._positions, self._length = rows, positions, length
        first = int(rows[0])
        neighbours = rows.equal(torch.arange(first, first + len(rows), device=rows.device))
        self._run = slice(first, first + len(rows)) if neighbours else None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write `(B, heads, Q, D)` states of one layer and return all positions of the chosen slots."""
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        rows = self._rows.unsqueeze(1)
        keys[rows, :, self._positions] = key_states.transpose(1, 2)
        values[rows, :, self._positions] = value_states.transpose(1, 2)
        # A run of neighbouring slots is read in place; anything else is copied, which costs more than the attention.
        chosen: slice | torch.Tensor = self._run if self._run is not None else self._rows
        return keys[chosen, :, : self._length], values[chosen, :, : self._length]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._length

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a slot into another one."""
        for store in (*self.keys, *self.values):
            store[target, :, :length] = store[source, :, :length]
