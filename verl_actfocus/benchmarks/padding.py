"""Memory of weighting a whole batch: padded to its longest row, and jagged, without padding.

Weights are computed where the trainer is, in one process, over all trajectories of a step: the mean and standard
deviation of Eq. 16 run over all of them. Lengths of agents' trajectories have a long tail, and a padded tensor is as
wide as its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from verl_actfocus.benchmarks.allocations import peak_bytes
from verl_actfocus.benchmarks.report import markdown_table
from verl_actfocus.integration.token_batch import token_batch
from verl_actfocus.weighting import ActFocus, compute_weights

#: Trajectories as rows of a padded tensor, as a weighting gets them that reads rows; and one behind another.
PADDED, JAGGED = "padded", "one behind another"


@dataclass(frozen=True)
class Cost:
    """What weighting a batch took."""

    #: Most that torch had allocated at a time beyond the batch itself, in bytes.
    peak: int
    seconds: float
    #: Sum of the weights, by which both ways are compared.
    total: float


def long_tailed_lengths(count: int, longest: int, seed: int = 0) -> list[int]:
    """Draw lengths from a log-normal distribution whose median is an eighth of the longest, cut off there.

    Args:
        count: how many.
        longest: tokens of the longest; one trajectory has exactly so many.
        seed: of the draw.
    """
    drawn = np.random.default_rng(seed).lognormal(np.log(longest / 8), 0.9, count)
    lengths = [int(length) for length in drawn.clip(1, longest)]
    return [longest, *lengths[1:]]


def measure(lengths: Sequence[int]) -> dict[str, Cost]:
    """Weight a batch with these lengths both ways."""
    weighting, data = ActFocus(), batch(lengths)

    def weights_of(by_rows: bool) -> Tensor:
        return compute_weights(weighting, token_batch(data, weighting, bypass=False, by_rows=by_rows))

    ways: dict[str, Callable[[], Tensor]] = {PADDED: partial(weights_of, True), JAGGED: partial(weights_of, False)}
    # What torch loads on first use is not the batch's.
    token_batch(batch([2, 1]), weighting, bypass=False, by_rows=True)
    costs = {}
    for way, weights in ways.items():
        began = time.perf_counter()
        total = float(weights().double().sum())
        seconds = time.perf_counter() - began
        costs[way] = Cost(peak_bytes(weights), seconds, total)
    return costs


def batch(lengths: Sequence[int]) -> TensorDict:
    """Return random columns as TransferQueue returns them; the engine's are over the prompt too, here of one token."""
    torch.manual_seed(0)
    columns = {
        "actfocus_spans": [torch.randint(3, (length,)) for length in lengths],
        "response_mask": [torch.ones(length, dtype=torch.long) for length in lengths],
        "loss_mask": [torch.ones(length, dtype=torch.long) for length in lengths],
        "advantages": [torch.randn(length) for length in lengths],
        "actfocus_input_ref_energy": [torch.randn(1 + length) for length in lengths],
    }
    nested = {name: torch.nested.as_nested_tensor(rows, layout=torch.jagged) for name, rows in columns.items()}
    return TensorDict(nested, batch_size=len(lengths))


def markdown(lengths: Sequence[int], costs: dict[str, Cost]) -> str:
    """Write the costs as a table."""
    table = markdown_table(
        ["weighting", "memory beyond the batch, MB", "seconds"],
        [[way, f"{cost.peak / 1e6:.0f}", f"{cost.seconds:.2f}"] for way, cost in costs.items()],
    )
    share = sum(lengths) / (len(lengths) * max(lengths))
    return (
        f"{len(lengths)} trajectories with {sum(lengths):,} response tokens, median {np.median(lengths):.0f}, longest "
        f"{max(lengths)}: {1 - share:.0%} of a padded tensor is padding.\n\n{table}"
    )
