"""Argument checks of the method: every error names what was expected and what came."""

import math
from collections.abc import Mapping
from numbers import Real

import torch
from torch import Tensor


def check_number(
    name: str,
    value: float,
    *,
    low: float,
    high: float = math.inf,
    low_inclusive: bool = True,
) -> None:
    """Raise ValueError unless `value` is a finite number from `low` to `high`."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and low <= value <= high and (low_inclusive or value > low):
        return
    upper = "" if high == math.inf else f" and at most {high:g}"
    lower = f"at least {low:g}" if low_inclusive else f"greater than {low:g}"
    raise ValueError(f"{name} must be a finite number {lower}{upper}, got {value!r}")


def check_same_shape(reference_name: str, reference: Tensor, others: Mapping[str, Tensor | None]) -> None:
    """Raise ValueError unless every tensor that is not None has the shape of `reference`."""
    for name, tensor in others.items():
        if tensor is not None and tensor.shape != reference.shape:
            raise ValueError(
                f"{name} must have the shape of {reference_name}, {tuple(reference.shape)}, got {tuple(tensor.shape)}"
            )


def check_batch(name: str, tensor: Tensor) -> None:
    """Raise ValueError unless `tensor` has two dimensions, sequences and response positions."""
    if tensor.dim() != 2:
        raise ValueError(f"{name} must have shape (sequences, positions), got {tuple(tensor.shape)}")


def check_floating(name: str, tensor: Tensor) -> None:
    """Raise ValueError unless `tensor` holds floating-point numbers."""
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must be a floating-point tensor, got {tensor.dtype}")


def first_position(flags_BT: Tensor) -> str | None:
    """Where the first true entry of a (B, T) tensor is, in words; None when there is none."""
    found = torch.nonzero(flags_BT)
    if found.shape[0] == 0:
        return None
    sequence, position = found[0].tolist()
    return f"sequence {sequence}, position {position}"


def as_bool_mask(name: str, mask_BT: Tensor) -> Tensor:
    """A (B, T) mask of zeros and ones, of any dtype, as booleans.

    Raises:
        ValueError: If an entry is neither 0 nor 1.
    """
    if mask_BT.dtype == torch.bool:
        return mask_BT
    place = first_position((mask_BT != 0) & (mask_BT != 1))
    if place is not None:
        raise ValueError(f"{name} must hold only 0 and 1, found another value at {place}")
    return mask_BT != 0
