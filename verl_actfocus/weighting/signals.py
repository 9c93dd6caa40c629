"""Signals: one number per token from which the weight of an action token is computed.

He et al. 2026 weight by the *energy* of the frozen reference model's logits (Eq. 4) and compare it with three
alternatives (Eq. 20-22). Each is one function in this file and one name in `SIGNALS`; the function's
parameters say which per-token tensors a trainer has to provide:

================  ================================================================================
`ref_energy`    `token_energy` of the reference model's logits
`ref_entropy`   `token_entropy` of the reference model's logits
`old_log_prob`  log-probability of the token under the policy that generated it, temperature 1
`ref_log_prob`  log-probability of the token under the reference model, temperature 1
================  ================================================================================

All have shape (B, T); position `t` belongs to token `t`, that is to the logits that *predict* it.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from verl_actfocus.weighting._checks import check_floating, check_same_shape


@torch.no_grad()
def token_energy(logits: Tensor, chunk_size: int | None = None) -> Tensor:
    """Energy of next-token logits, `E = -logsumexp(logits)` (He et al. 2026, Eq. 4).

    Give the raw logits (temperature 1): energy, unlike entropy, changes when a constant is added to all of
    them.

    Args:
        logits: Raw logits, shape (..., V), any floating dtype. Entries of `-inf` are tokens of probability
            zero.
        chunk_size: Number of positions handled at a time. Bounds the working memory to `chunk_size * V`
            float32 numbers; None handles all positions at once. Up to rounding, the result does not depend on
            it.

    Returns:
        Energies, shape (...), float32, without gradient. A position whose logits are all `-inf` has energy
        `+inf`.

    Raises:
        ValueError: If `logits` is not floating point or has no vocabulary entry, or `chunk_size` is not
            positive.

    Example:
        >>> token_energy(torch.zeros(1, 4))  # -log 4
        tensor([-1.3863])
    """
    return _per_position(logits, chunk_size, lambda chunk: -torch.logsumexp(chunk, dim=-1))


@torch.no_grad()
def token_entropy(logits: Tensor, chunk_size: int | None = None) -> Tensor:
    """Entropy of the next-token distribution in nats, `-sum_v p_v log p_v` (He et al. 2026, Eq. 20).

    Args:
        logits: Raw logits, shape (..., V), any floating dtype. Entries of `-inf` are tokens of probability
            zero.
        chunk_size: As in `token_energy`.

    Returns:
        Entropies, shape (...), float32, without gradient. A position whose logits are all `-inf` has no
        distribution, and entropy NaN.

    Raises:
        ValueError: As `token_energy`.

    Example:
        >>> token_entropy(torch.zeros(1, 4))  # log 4
        tensor([1.3863])
    """
    return _per_position(logits, chunk_size, lambda chunk: torch.special.entr(torch.softmax(chunk, dim=-1)).sum(dim=-1))


@torch.no_grad()
def token_sum_pi_squared(logits: Tensor, chunk_size: int | None = None) -> Tensor:
    """Sum of the squared probabilities of the next token, `sum_v p_v^2`: 1 where the model is certain, 1/V at least.

    Args:
        logits: Raw logits, shape (..., V), any floating dtype. Entries of `-inf` are tokens of probability
            zero.
        chunk_size: As in `token_energy`.

    Returns:
        Sums, shape (...), float32, without gradient. A position whose logits are all `-inf` has no
        distribution, and sum NaN.

    Raises:
        ValueError: As `token_energy`.

    Example:
        >>> token_sum_pi_squared(torch.zeros(1, 4))
        tensor([0.2500])
    """
    return _per_position(logits, chunk_size, lambda chunk: torch.softmax(chunk, dim=-1).square().sum(dim=-1))


def _per_position(logits: Tensor, chunk_size: int | None, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of (N, V) logits chunk by chunk over all positions, in float32 or wider."""
    check_floating("logits", logits)
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have shape (..., V) with V at least 1, got {tuple(logits.shape)}")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be a positive number of positions or None, got {chunk_size}")
    shape = logits.shape[:-1]
    count = shape.numel()
    out = torch.empty(count, dtype=torch.float32, device=logits.device)
    for start in range(0, count, chunk_size or max(count, 1)):
        stop = min(start + (chunk_size or count), count)
        chunk = _positions(logits, start, stop)
        wide = chunk if chunk.dtype == torch.float64 else chunk.float()
        out[start:stop] = function(wide)
    return out.reshape(shape)


def _positions(logits: Tensor, start: int, stop: int) -> Tensor:
    """Rows `start` to `stop` of the logits flattened to (positions, V), copying only these rows."""
    if logits.is_contiguous():
        return logits.view(-1, logits.shape[-1])[start:stop]
    # `reshape` of a slice such as logits[:, :-1] would copy all of it.
    flat = torch.arange(start, stop, device=logits.device)
    return logits[torch.unravel_index(flat, logits.shape[:-1])]


def energy(ref_energy: Tensor) -> Tensor:
    """Energy of the frozen reference model's logits (He et al. 2026, Eq. 4 and 19)."""
    return ref_energy


def entropy(ref_entropy: Tensor) -> Tensor:
    """Entropy of the frozen reference model's next-token distribution (He et al. 2026, Eq. 20)."""
    return ref_entropy


def nll(old_log_prob: Tensor) -> Tensor:
    """Negative log-likelihood of the token under the policy that generated it (He et al. 2026, Eq. 21)."""
    return -old_log_prob


def shift(old_log_prob: Tensor, ref_log_prob: Tensor) -> Tensor:
    """Log-probability shift of the policy against the reference model (He et al. 2026, Eq. 22)."""
    return old_log_prob - ref_log_prob


@dataclass(frozen=True)
class Signal:
    """A weighting signal: a function from per-token tensors of shape (B, T) to one of that shape."""

    function: Callable[..., Tensor]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the per-token tensors the function needs: its parameters."""
        return tuple(inspect.signature(self.function).parameters)

    def inputs_from(self, source: str) -> dict[str, str] | None:
        """Return each input's name → the name of what takes its place with a source of `SOURCES`.

        None if the signal cannot be had from that source: other than the reference, it has to be a function of the
        reference model alone.
        """
        places = SOURCES[source]
        if source != DEFAULT_SOURCE and not all(name in places for name in self.inputs):
            return None
        return {name: places.get(name, name) for name in self.inputs}


SIGNALS: dict[str, Signal] = {
    "energy": Signal(energy),
    "entropy": Signal(entropy),
    "nll": Signal(nll),
    "shift": Signal(shift),
}
"""The signals by the name a configuration gives them."""

DEFAULT_SOURCE = "reference"
SOURCES: dict[str, dict[str, str]] = {
    DEFAULT_SOURCE: {},
    "old": {"ref_energy": "old_energy", "ref_entropy": "old_entropy"},
}
"""Models that signals of the reference model may be computed from instead: input → what takes its place."""


@torch.no_grad()
def compute_signal(name: str, *, tensors: Mapping[str, Tensor]) -> Tensor:
    """Compute a signal by name.

    Args:
        name: A key of `SIGNALS`.
        tensors: Per-token tensors by name, each of shape (B, T); those that the signal does not need are not
            read.

    Returns:
        The signal, shape (B, T), float32, without gradient.

    Raises:
        ValueError: If the name is unknown, an input is missing, or the inputs differ in shape.

    Example:
        >>> compute_signal("nll", tensors={"old_log_prob": torch.tensor([[-0.5, -2.0]])})
        tensor([[0.5000, 2.0000]])
    """
    if name not in SIGNALS:
        raise ValueError(f"unknown signal {name!r}; known signals: {', '.join(sorted(SIGNALS))}")
    signal = SIGNALS[name]
    missing = [needed for needed in signal.inputs if needed not in tensors]
    if missing:
        raise ValueError(
            f"signal {name!r} needs {', '.join(signal.inputs)}; missing: {', '.join(missing)} "
            f"(given: {', '.join(sorted(tensors)) or 'nothing'})"
        )
    inputs = {needed: tensors[needed].detach() for needed in signal.inputs}
    first = signal.inputs[0]
    check_same_shape(first, inputs[first], inputs)
    for needed, tensor in inputs.items():
        check_floating(needed, tensor)
    return signal.function(**{needed: _at_least_float32(tensor) for needed, tensor in inputs.items()}).float()


def _at_least_float32(tensor: Tensor) -> Tensor:
    """Widen half precision, so that a difference of two log-probabilities is not rounded twice."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
