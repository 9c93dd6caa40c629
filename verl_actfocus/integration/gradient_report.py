"""Where the policy gradient comes from: exact norms by span, and its variance with and without the weights.

`algorithm.actfocus.gradient_report.every` asks for it. It is taken on the first mini-batch of a training step, before
the update: four forward and backward passes of each micro-batch, one for each span and one without weights. Neither
parameters, optimizer, `.grad` nor random numbers are different afterwards.

The gradient of a mini-batch is a sum over rounds of micro-batches, `G = Σ_i c_i`. Round `i` is the `i`-th micro-batch
of every rank, `m_i` trajectories together; `c_i` is the gradient of its part of the policy loss (Eq. 6, without entropy
and KL terms), divided by what the update divides it by. The spans' parts add up: `G = G_reasoning + G_action + G_none`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import combinations_with_replacement
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torch.distributed.tensor import DTensor
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_id, get_device_name
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine
from verl.workers.engine.utils import prepare_micro_batches

from verl_actfocus.integration import fields
from verl_actfocus.integration.micro_batch import nested
from verl_actfocus.weighting import Span

logger = logging.getLogger(__name__)

#: Name of a span in metrics → the span.
_NAMES = {span.name.lower(): span for span in Span}
#: A gradient: this rank's shard of every trained parameter's.
Shards = list[Tensor]


def variance_of_sum(square: float, squares_by_size: float, trajectories: int, rounds: int) -> float:
    """Estimate the variance of a mini-batch's gradient: the trace of its covariance over repeated sampling.

    `Var(G) = M σ²`, where σ² is that of one trajectory's part and M their number. The rounds tell it without bias,
    however their sizes differ, if trajectories are sampled alike and independently:
    `M/(n-1) Σ_i |c_i - (m_i/M) G|² / m_i = (M Σ_i |c_i|²/m_i - |G|²) / (n-1)`. With rounds of one size it is `n` times
    the trace of their sample covariance.

    Args:
        square: `|G|²`.
        squares_by_size: `Σ_i |c_i|² / m_i`.
        trajectories: `M`.
        rounds: `n`, at least 2.
    """
    return (trajectories * squares_by_size - square) / (rounds - 1)


def gradient_report(engine: FSDPEngine, data: TensorDict, loss_function: Callable[..., Any]) -> dict[str, float]:
    """Take the gradients of a mini-batch and say where they come from.

    Args:
        engine: in training mode.
        data: this rank's share of the mini-batch, with weights, spans and what the loss is divided by; gets entries.
        loss_function: `verl_actfocus.integration.policy_loss.actfocus_ppo_loss` with its configuration.

    Returns:
        `gradient_norm/<span>`, `gradient_cosine` between reasoning and action unless one of them is 0, and, of two
        micro-batches a rank or more, `gradient_variance/{weighted,unweighted}`, and `gradient_noise_share/…`, the
        variance over `|G|²`, unless that is 0. The same on every rank.
    """
    totals, squares_by_size, sizes = _gradients(engine, data, loss_function)
    pairs = [*combinations_with_replacement(_NAMES, 2), ("unweighted", "unweighted")]
    local = [_dot(totals[one], totals[other]) for one, other in pairs] + list(squares_by_size.values())
    *products, by_size, by_size_unweighted = _summed(local, engine.device_mesh["fsdp"].get_group())
    product = dict(zip(pairs, products, strict=True))
    metrics = {f"gradient_norm/{name}": math.sqrt(product[name, name]) for name in _NAMES}
    both = math.sqrt(product["reasoning", "reasoning"] * product["action", "action"])
    if both > 0:
        metrics["gradient_cosine"] = product["reasoning", "action"] / both
    filled = sum(size > 0 for size in sizes)
    if filled < 2:
        logger.warning("gradient report: a single micro-batch a rank tells no variance; choose smaller micro-batches")
        return metrics
    # The squared length of a sum: every product of two different parts counts twice.
    square = sum(product[one, other] * (1 if one == other else 2) for one, other in pairs[:-1])
    for name, length, squares in (
        ("weighted", square, by_size),
        ("unweighted", product["unweighted", "unweighted"], by_size_unweighted),
    ):
        metrics[f"gradient_variance/{name}"] = variance_of_sum(length, squares, sum(sizes), filled)
        if length > 0:
            metrics[f"gradient_noise_share/{name}"] = metrics[f"gradient_variance/{name}"] / length
    return metrics


def _gradients(
    engine: FSDPEngine, data: TensorDict, loss_function: Callable[..., Any]
) -> tuple[dict[str, Shards], dict[str, float], list[int]]:
    """Run the passes.

    Returns:
        The mini-batch's gradient of each span and without weights; this rank's part of `Σ_i |c_i|² / m_i` with and
        without weights; and `m_i`.
    """
    rounds, sizes = _rounds(engine, data)
    totals: dict[str, Shards] = {}
    squares_by_size = {"weighted": 0.0, "unweighted": 0.0}
    with _gradients_aside(engine.module):
        for micro_batch, size in zip(rounds, sizes, strict=True):
            weighted: Shards = []
            for name, span in _NAMES.items():
                part = _gradient(engine, _restricted(micro_batch, span), loss_function)
                totals[name] = _accumulated(totals.get(name, []), part)
                weighted = _accumulated(weighted, part)
            # A round without a trajectory is padding, and its gradient is 0.
            squares_by_size["weighted"] += _dot(weighted, weighted) / max(size, 1)
            del weighted, part  # memory: a shard each
            unweighted = _gradient(engine, _unweighted(micro_batch), loss_function)
            totals["unweighted"] = _accumulated(totals.get("unweighted", []), unweighted)
            squares_by_size["unweighted"] += _dot(unweighted, unweighted) / max(size, 1)
    return totals, squares_by_size, sizes


@contextmanager
def _gradients_aside(module: torch.nn.Module) -> Iterator[None]:
    """Clear `.grad` of every parameter, and put back in the end what it was."""
    before = [(parameter, parameter.grad) for parameter in module.parameters()]
    for parameter, _ in before:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in before:
            parameter.grad = gradient


def _rounds(engine: FSDPEngine, data: TensorDict) -> tuple[list[TensorDict], list[int]]:
    """Split a mini-batch as the update will: this rank's micro-batches, and each round's trajectories on all ranks.

    Rows without a response token are padding and no trajectories.
    """
    group = engine.get_data_parallel_group()
    (tokens,) = _summed([data["loss_mask"].values().sum()], group)
    entries = {
        "sp_size": engine.ulysses_sequence_parallel_size,
        "dp_size": engine.get_data_parallel_size(),
        "batch_num_tokens": tokens,
        "calculate_entropy": False,
        fields.POLICY_LOSS_ALONE: True,
    }
    tu.assign_non_tensor(data, **entries)
    micro_batches, _ = prepare_micro_batches(data=data, dp_group=group, same_micro_num_in_dp=True)
    sizes = [sum(int(row.any()) for row in one["loss_mask"].unbind()) for one in micro_batches]
    return micro_batches, [int(size) for size in _summed(sizes, group)]


def _gradient(engine: FSDPEngine, micro_batch: TensorDict, loss_function: Callable[..., Any]) -> Shards:
    """Return the gradient of one micro-batch of every rank, and clear it from the parameters.

    Every pass draws the random numbers (dropout) that the update's first pass will draw.
    """
    # float16 alone has a scaler; its scale is read and not updated.
    scale = 1.0 if engine.scaler is None else engine.scaler.get_scale()
    with _random_numbers_kept(), engine._gradient_sync_context(is_last_micro_batch=True):
        loss, _ = engine.forward_step(micro_batch, loss_function=loss_function, forward_only=False)
        (loss * scale).backward()
    gradient = []
    for parameter in engine.module.parameters():
        if parameter.grad is not None:
            own = parameter.grad.to_local() if isinstance(parameter.grad, DTensor) else parameter.grad
            gradient.append(own / scale)
            parameter.grad = None
    return gradient


def _random_numbers_kept() -> AbstractContextManager[None]:
    """Leave the random generators of the CPU and of this rank's device as they were."""
    device = get_device_name()
    if device == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[get_device_id()], device_type=device)


def _summed(values: Sequence[Any], group: Any) -> list[float]:
    """Sum numbers over the ranks of a group."""
    numbers = torch.tensor([float(value) for value in values], dtype=torch.float64, device=get_device_id())
    torch.distributed.all_reduce(numbers, group=group)
    return numbers.tolist()


def _restricted(micro_batch: TensorDict, span: Span) -> TensorDict:
    """Return a micro-batch whose policy loss lies on one span: other tokens have weight but no advantage."""
    rows = zip(micro_batch["advantages"].unbind(), micro_batch[fields.SPANS].unbind(), strict=True)
    restricted = micro_batch.copy()
    restricted["advantages"] = nested([torch.where(spans == span, row, 0.0) for row, spans in rows])
    return restricted


def _unweighted(micro_batch: TensorDict) -> TensorDict:
    """Return a micro-batch in which every token that the model wrote weighs 1, normalised like veRL's stock loss."""
    unweighted = micro_batch.copy()
    unweighted[fields.WEIGHTS] = nested([row.float() for row in micro_batch["loss_mask"].unbind()])
    for other in (fields.FIXED_NORMALIZER, fields.MICRO_BATCHES, fields.NORMALIZE_BY_TOKENS):
        unweighted.pop(other, None)
    tu.assign_non_tensor(unweighted, **{fields.WEIGHT_SUM: micro_batch["batch_num_tokens"]})
    return unweighted


def _accumulated(total: Shards, part: Shards) -> Shards:
    """Add a gradient to a total, in place; an empty total becomes a copy of it."""
    if not total:
        return [one.clone() for one in part]
    for one, other in zip(total, part, strict=True):
        one += other
    return total


def _dot(first: Shards, second: Shards) -> float:
    """Inner product of two gradients on this rank, summed in float64."""
    pairs = zip(first, second, strict=True)
    return sum(torch.dot(one.double().flatten(), other.double().flatten()).item() for one, other in pairs)
