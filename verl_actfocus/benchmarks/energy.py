"""What the energy costs: time and memory from hidden states to log-probabilities, with it and without.

The layers of the model are left out, which cost the same with and without: of a whole forward pass the ratios are
nearer to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from verl_actfocus.benchmarks.devices import peak_of, seconds_of
from verl_actfocus.integration.fused import projected
from verl_actfocus.integration.stock import fused_log_probs, log_probs_of
from verl_actfocus.weighting.inputs import ENGINE_INPUTS

INPUT = "ref_energy"


@dataclass(frozen=True)
class PassCost:
    """Time and memory of one way."""

    #: One for each round.
    seconds: tuple[float, ...]
    #: Most that it had allocated at a time, beside hidden states and output matrix.
    peak_bytes: int


@dataclass(frozen=True)
class EnergyPass:
    """Four ways from hidden states to log-probabilities (and energies), measured in alternation."""

    tokens: int
    vocabulary: int
    hidden: int
    dtype: str
    device: str
    #: veRL's fused log-probabilities alone.
    fused: PassCost
    #: Fused log-probabilities and energies.
    fused_energy: PassCost
    #: veRL's log-probabilities of the complete logits.
    unfused: PassCost
    #: The same and energies of them; the engine spares itself these at temperature 1 in float32.
    unfused_energy: PassCost
    #: Largest difference between fused and unfused energies.
    largest_difference: float

    @property
    def ways(self) -> dict[str, PassCost]:
        """What the ways are called in tables."""
        return {
            "fused log-probabilities": self.fused,
            "and energies": self.fused_energy,
            "log-probabilities of complete logits": self.unfused,
            "and energies of them": self.unfused_energy,
        }

    @property
    def time_ratio(self) -> float:
        """Time of the fused pass with energies over that of veRL's fused pass, the median over rounds."""
        pairs = zip(self.fused_energy.seconds, self.fused.seconds, strict=True)
        return median(own / stock for own, stock in pairs)

    @property
    def memory_ratio(self) -> float:
        """Peak of the fused pass with energies over that of the unfused pass with energies."""
        return self.fused_energy.peak_bytes / self.unfused_energy.peak_bytes

    def as_json(self) -> dict[str, Any]:
        """Return plain values, the ratios among them."""
        return asdict(self) | {"time_ratio": self.time_ratio, "memory_ratio": self.memory_ratio}


def measure_energy_pass(
    tokens: int,
    vocabulary: int,
    hidden: int,
    *,
    rounds: int = 3,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
) -> EnergyPass:
    """Measure with random hidden states and output matrix.

    The unfused ways hold `tokens * vocabulary` logits, 4 bytes each in float32, and 1024 rows more.

    Args:
        tokens: of a micro-batch.
        vocabulary: of the model.
        hidden: its width.
        rounds: each times all ways, one after the other.
        dtype: of hidden states, output matrix and logits.
        device: `cpu` or `cuda`.
        seed: of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(tokens, hidden, generator=generator).to(device, dtype)
    matrix = torch.randn(vocabulary, hidden, generator=generator).mul_(hidden**-0.5).to(device, dtype)
    labels = torch.randint(vocabulary, (tokens,), generator=generator).to(device)

    def fused_energy() -> Tensor:
        return projected(states, matrix, labels, [INPUT], 1.0, with_entropy=False).inputs[INPUT]

    def unfused_energy() -> Tensor:
        logits = states @ matrix.t()
        energies = ENGINE_INPUTS[INPUT].function(logits, labels)
        log_probs_of(logits, labels)
        return energies

    ways: dict[str, Callable[[], Tensor]] = {
        "fused": lambda: fused_log_probs(states, matrix, labels),
        "fused_energy": fused_energy,
        "unfused": lambda: log_probs_of(states @ matrix.t(), labels),
        "unfused_energy": unfused_energy,
    }
    peaks = {name: peak_of(way, device) for name, way in ways.items()}
    difference = float((fused_energy() - unfused_energy()).abs().max())
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(seconds_of(way, device))
    costs = {name: PassCost(tuple(seconds[name]), peaks[name]) for name in ways}
    return EnergyPass(
        tokens, vocabulary, hidden, str(dtype).removeprefix("torch."), device, **costs, largest_difference=difference
    )
