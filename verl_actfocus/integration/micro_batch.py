"""What every extension of the engine reads of a micro-batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDict
from torch import Tensor
from verl.utils import tensordict_utils as tu


def flag(micro_batch: TensorDict, key: str, default: bool) -> bool:
    """Return a batch entry that is true or false."""
    return bool(tu.get_non_tensor_data(data=micro_batch, key=key, default=default))


def nested(rows: Sequence[Tensor]) -> Tensor:
    """Put rows of any length one behind another, as veRL's jagged batches have them."""
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def unpad(values: Tensor, offsets: Tensor) -> Tensor:
    """Drop the right padding of `(B, T, …)` values: `(total tokens, …)` in the order of the jagged batch."""
    lengths = offsets.diff()
    valid = torch.arange(values.shape[1], device=values.device) < lengths.unsqueeze(1)
    return values[valid]
