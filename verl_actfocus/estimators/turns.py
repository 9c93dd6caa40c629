"""From values per token to values per turn and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from verl_actfocus.weighting import turn_indices


def turns_of(model_mask: Tensor) -> Tensor:
    """Number the model's turns of one row: `(T,)` int64, -1 outside of them; see `turn_indices`."""
    return turn_indices(model_mask.unsqueeze(0))[0]


def by_turn(turns: Tensor, values: Tensor) -> Tensor:
    """Sum the values of each turn.

    Args:
        turns: `(T,)` of `turns_of`.
        values: `(T,)` of one row's tokens; those outside the turns are left out.

    Returns:
        `(K,)`, K the number of turns, in the dtype of the values.

    Example:
        >>> by_turn(torch.tensor([0, 0, -1, 1]), torch.tensor([1, 2, 4, 8]))
        tensor([3, 8])
    """
    inside = turns >= 0
    sums = torch.zeros(int(turns.max()) + 1 if len(turns) else 0, dtype=values.dtype, device=values.device)
    return sums.index_add_(0, turns[inside], values[inside])


def on_tokens(turns: Tensor, values: Tensor) -> Tensor:
    """Give every token its turn's value, `(T,)` from `(K,)`; 0 outside the turns.

    Example:
        >>> on_tokens(torch.tensor([0, 0, -1, 1]), torch.tensor([3.0, 8.0]))
        tensor([3., 3., 0., 8.])
    """
    padded = torch.cat([values, values.new_zeros(1)])
    return padded[torch.where(turns >= 0, turns, len(values))]


def returns_to_go(rewards: Sequence[float], gamma: float) -> list[float]:
    """Return `R_k = Σ_{j≥k} γ^(j-k) r_j` for each turn.

    Example:
        >>> returns_to_go([1.0, 0.0, 4.0], 0.5)
        [2.0, 2.0, 4.0]
    """
    found: list[float] = []
    following = 0.0
    for reward in reversed(rewards):
        following = reward + gamma * following
        found.append(following)
    return found[::-1]
