"""What the entropy of the update costs in memory, by the way it is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from verl_actfocus.benchmarks.allocations import kept_bytes
from verl_actfocus.benchmarks.devices import peak_of, seconds_of
from verl_actfocus.integration.entropy import recomputed_entropy
from verl_actfocus.integration.stock import ENTROPIES

OWN = "this package's engine"


@dataclass(frozen=True)
class EntropyCost:
    """Of one way to an entropy and its gradient, beside the logits themselves."""

    #: Kept between forward and backward pass.
    kept_bytes: int
    #: Most that was allocated at a time in forward and backward pass together, the gradient of the logits included.
    peak_bytes: int
    #: One for each round.
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class EntropyMemory:
    """All ways, measured in alternation."""

    tokens: int
    vocabulary: int
    dtype: str
    device: str
    chunk_size: int
    costs: dict[str, EntropyCost]

    def per_logit(self, way: str) -> float:
        """Bytes of the peak for each logit."""
        return self.costs[way].peak_bytes / (self.tokens * self.vocabulary)

    def as_json(self) -> dict[str, Any]:
        """Return plain values, bytes for each logit among them."""
        return asdict(self) | {"peak_bytes_per_logit": {way: self.per_logit(way) for way in self.costs}}


def measure_entropy_memory(
    tokens: int,
    vocabulary: int,
    *,
    dtype: torch.dtype = torch.bfloat16,
    chunk_size: int = 2048,
    rounds: int = 3,
    device: str = "cpu",
    seed: int = 0,
) -> EntropyMemory:
    """Measure with random logits.

    Args:
        tokens: of a micro-batch.
        vocabulary: of the model.
        dtype: of the logits.
        chunk_size: `entropy_from_logits_chunk_size`.
        rounds: each times all ways, one after the other.
        device: `cpu` or `cuda`.
        seed: of the random numbers.
    """
    drawn = torch.randn(tokens, vocabulary, generator=torch.Generator().manual_seed(seed))
    logits = drawn.to(device, dtype).requires_grad_()
    del drawn
    ways: dict[str, Callable[[Tensor, int], Tensor]] = {**ENTROPIES, OWN: recomputed_entropy}
    kept, peaks = {}, {}
    for name, way in ways.items():
        kept[name] = kept_bytes(way, logits, chunk_size)
        peaks[name] = peak_of(partial(_backward, way, logits, chunk_size), device)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(seconds_of(partial(_backward, way, logits, chunk_size), device))
    costs = {name: EntropyCost(kept[name], peaks[name], tuple(seconds[name])) for name in ways}
    return EntropyMemory(tokens, vocabulary, str(dtype).removeprefix("torch."), device, chunk_size, costs)


def _backward(way: Callable[[Tensor, int], Tensor], logits: Tensor, chunk_size: int) -> Tensor:
    (gradient,) = torch.autograd.grad(way(logits, chunk_size).sum(), logits)
    return gradient
