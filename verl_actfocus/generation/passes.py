"""Forward passes, and their shapes by which a response does not depend on its company, to the last bit.

Neither on who shares its forward passes nor on the order in which requests arrive. Kernels round differently for other
shapes, so the shapes are chosen such that they do not: passes have whole `ROWS` and `WIDTH`, a prefill is as long as
its own sequence asks for in whole `PREFILL_LENGTH`, and decoding adds whole `DECODE_LENGTH` of positions that weigh
exactly 0. That this is enough is a property of the kernels of one thread (oneMKL's and torch's attention on x86), which
`tests/unit/generation/test_company.py` checks where it runs.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from verl_actfocus.generation.cache import SlotCache

#: Rows of a forward pass come in multiples of this; a product of fewer is another kernel's (a vector times a matrix).
ROWS = 8
#: Tokens of a row that are prefilled come in multiples of this.
WIDTH = 8
#: Positions that a prefill's attention sees come in multiples of this, by the row's own length.
PREFILL_LENGTH = 64
#: Positions that attention sees while decoding come in multiples of this: the width of the widest vector register.
DECODE_LENGTH = 16


def whole(count: int, unit: int) -> int:
    """The least multiple of a unit that is not below a count."""
    return -(-count // unit) * unit


def forward(
    model: PreTrainedModel,
    cache: SlotCache,
    rows: slice | torch.Tensor,
    ids: torch.Tensor,
    positions: torch.Tensor,
    targets: torch.Tensor,
    length: int,
    kept: torch.Tensor,
) -> torch.Tensor:
    """Feed tokens to a model that attends to what slots of a cache hold.

    Args:
        model: the model.
        cache: keys and values; receives those of the tokens.
        rows: slots of the `B` rows.
        ids: tokens `(B, Q)`.
        positions: their positions `(B, Q)`.
        targets: the positions of the cache that they are written to, `(B, Q)`.
        length: positions that attention sees.
        kept: columns whose logits are wanted, `(K,)`.

    Returns:
        Logits, float32, `(B, K, V)`.
    """
    device = model.device
    ids, positions, targets, kept = (part.to(device) for part in (ids, positions, targets, kept))
    cache.select(rows if isinstance(rows, slice) else rows.to(device), targets, length)
    # Causal over absolute positions; everything a slot holds beyond its own length lies in the future.
    mask = torch.arange(length, device=device) <= positions.clamp(max=length - 1).unsqueeze(-1)
    columns = len(kept)
    if len(ids) * columns < ROWS:  # the output layer is a product of its own
        kept = kept.repeat(whole(ROWS, len(ids) * columns))
    output = model(
        input_ids=ids,
        attention_mask=mask.unsqueeze(1),
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=kept,
    )
    return output.logits[:, :columns].float()
