"""Keys and values of sequences that share a batch: one preallocated slot for each, and which tokens a slot holds."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel


class SlotCache:
    """Keys and values of all slots, shaped for transformers' attention modules.

    One tensor, `(2 × layers, slots, kv heads, positions, head dimension)`, keys and values of a layer in turn. `update`
    has the signature that the models of transformers call (`transformers/cache_utils.py`, `Cache.update`); where to
    write is set by `select` before each forward pass. The last position of a slot is spare: what is written there is
    never read.
    """

    def __init__(self, model: PreTrainedModel, slots: int, positions: int) -> None:
        config = model.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (2 * config.num_hidden_layers, slots, config.num_key_value_heads, positions + 1, head_dim)
        self._store = next(model.parameters()).new_zeros(shape)
        # The same memory as rows of one head at one position: writing is one copy of rows for each layer.
        self._rows = self._store.view(shape[0], -1, head_dim)
        self._heads = torch.arange(config.num_key_value_heads, device=self._store.device).view(1, -1, 1)
        self._targets = torch.empty(0, dtype=torch.long)
        self._chosen: slice | torch.Tensor = slice(0)
        self._length = 0

    def select(self, rows: slice | torch.Tensor, positions: torch.Tensor, length: int) -> None:
        """Choose the slots of `B` rows, the positions `(B, Q)` to write, and how many positions attention sees.

        Args:
            rows: neighbouring slots, which are read in place, or any slots, `(B,)`, which are copied.
            positions: int64; the number of positions, the spare one, for what shall be written nowhere.
            length: attention sees positions `0 … length - 1` of each slot.
        """
        _, slots, heads, stride, _ = self._store.shape
        numbers = torch.arange(slots, device=positions.device)[rows] if isinstance(rows, slice) else rows
        places = (numbers.view(-1, 1, 1) * heads + self._heads) * stride + positions.unsqueeze(1)
        self._targets, self._chosen, self._length = places.flatten(), rows, length

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write `(B, heads, Q, D)` states of one layer and return the chosen slots `(B, heads, length, D)`."""
        keys, values = 2 * layer_idx, 2 * layer_idx + 1
        self._rows[keys].index_copy_(0, self._targets, key_states.flatten(0, 2))
        self._rows[values].index_copy_(0, self._targets, value_states.flatten(0, 2))
        return (
            self._store[keys, self._chosen, :, : self._length],
            self._store[values, self._chosen, :, : self._length],
        )

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._length

    def read(self, slot: int, length: int) -> torch.Tensor:
        """Return a view of the first `length` positions of a slot, `(2 × layers, kv heads, length, D)`."""
        return self._store[:, slot, :, :length]

    def write(self, slot: int, kept: torch.Tensor) -> None:
        """Put what `read` returned into a slot."""
        self.read(slot, kept.shape[2]).copy_(kept)


class SlotPool:
    """Which slots are idle and which tokens they still hold, so that a longer prompt finds what it continues.

    Where every idle slot holds something, the one that was released first is taken, and what it held is moved aside
    ("parked") and moved back when it is asked for: a sequence's keys and values are computed once, whatever else runs.

    Args:
        cache: the keys and values.
        slots: how many of its slots there are to give.
        parked: most positions that are parked, all sequences together; the oldest ones are dropped.
    """

    def __init__(self, cache: SlotCache, slots: int, parked: int) -> None:
        self._cache, self._slots, self._most_parked = cache, slots, parked
        self.forget()

    def forget(self) -> None:
        """Drop everything; all slots are idle."""
        #: Idle slots, the first released one first, with the tokens that they still hold.
        self._idle: dict[int, tuple[int, ...]] = dict.fromkeys(range(self._slots), ())
        #: Several where siblings wrote the same: each of them comes back for its own.
        self._by_tokens: dict[tuple[int, ...], list[int]] = {}
        self._parked: dict[tuple[int, ...], list[torch.Tensor]] = {}
        self._parked_positions = 0

    def __len__(self) -> int:
        """Idle slots."""
        return len(self._idle)

    def take(self, prompt: list[int]) -> tuple[int, int]:
        """Give out a slot; return it and how many tokens of the prompt it holds, always fewer than all."""
        held = self._longest_prefix(prompt)
        if held in self._by_tokens:
            slot = self._by_tokens[held][0]
        else:
            kept = self._unpark(held)
            slot = next(iter(self._idle))
            self._park(slot)
            if kept is not None:
                self._cache.write(slot, kept)
        tokens = self._idle.pop(slot)
        if tokens:
            self._by_tokens[tokens].remove(slot)
            if not self._by_tokens[tokens]:
                del self._by_tokens[tokens]
        return slot, len(held)

    def release(self, slot: int, tokens: tuple[int, ...]) -> None:
        """Take a slot back that holds the keys and values of these tokens."""
        self._idle[slot] = tokens
        if tokens:
            self._by_tokens.setdefault(tokens, []).append(slot)

    def lowest(self) -> int:
        """The idle slot with the lowest number; there must be one."""
        return min(self._idle)

    def move_into(self, idle: int, taken: int, length: int) -> None:
        """Let an idle slot and one that was given out, of which `length` positions count, change places."""
        tokens = self._idle[idle]
        kept = self._cache.read(idle, len(tokens)).clone()
        self._cache.write(idle, self._cache.read(taken, length))
        self._cache.write(taken, kept)
        # In its old place in the order of release.
        self._idle = {taken if slot == idle else slot: held for slot, held in self._idle.items()}
        if tokens:
            slots = self._by_tokens[tokens]
            slots[slots.index(idle)] = taken

    def _longest_prefix(self, prompt: list[int]) -> tuple[int, ...]:
        lengths = {len(tokens) for held in (self._by_tokens, self._parked) for tokens in held}
        for length in sorted((length for length in lengths if length < len(prompt)), reverse=True):
            tokens = tuple(prompt[:length])
            if tokens in self._by_tokens or tokens in self._parked:
                return tokens
        return ()

    def _park(self, slot: int) -> None:
        tokens = self._idle[slot]
        if not 0 < len(tokens) <= self._most_parked:
            return
        while self._parked_positions + len(tokens) > self._most_parked:
            self._unpark(next(iter(self._parked)))
        self._parked.setdefault(tokens, []).append(self._cache.read(slot, len(tokens)).clone())
        self._parked_positions += len(tokens)

    def _unpark(self, tokens: tuple[int, ...]) -> torch.Tensor | None:
        if tokens not in self._parked:
            return None
        kept = self._parked[tokens].pop(0)
        if not self._parked[tokens]:
            del self._parked[tokens]
        self._parked_positions -= len(tokens)
        return kept
