"""What signals, weights, loss and entropy promise, checked on a device and in a dtype against float64 by definition.

The tests hold the same promises on a CPU; kernels of a GPU round in other orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from verl_actfocus.integration.entropy import recomputed_entropy
from verl_actfocus.integration.fused import projected
from verl_actfocus.integration.stock import CLIP_HIGH, CLIP_LOW, DUAL_CLIP, policy_loss_of
from verl_actfocus.weighting import Span, token_weights, weighted_policy_loss
from verl_actfocus.weighting.inputs import ENGINE_INPUTS

#: Inputs of one forward pass that are compared, with their definitions over float64 log-probabilities and logits.
_INPUTS = ("ref_energy", "ref_entropy", "ref_log_prob")
#: Tokens that entropies are computed for at a time.
_CHUNK = 100
ALPHA, BETA = 0.1, 0.5


@dataclass(frozen=True)
class Contract:
    """A promise, how far it is missed, and how far it may be."""

    promise: str
    dtype: str
    error: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return self.error <= self.tolerance


def check_contracts(device: str, dtype: torch.dtype, *, tokens: int, vocabulary: int, hidden: int) -> list[Contract]:
    """Check all promises on random numbers.

    Args:
        device: `cpu` or `cuda`.
        dtype: of logits, hidden states and log-probabilities, float32 or bfloat16.
        tokens: rows of the logits, and tokens of the batch that the loss is of.
        vocabulary: columns of the logits.
        hidden: width of the hidden states.
    """
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(tokens, hidden, generator=generator).to(device, dtype)
    matrix = torch.randn(vocabulary, hidden, generator=generator).mul_(3 * hidden**-0.5).to(device, dtype)
    labels = torch.randint(vocabulary, (tokens,), generator=generator).to(device)
    rounded = dtype != torch.float32
    found = [
        *_signals(states @ matrix.t(), labels),
        _fused(states, matrix, labels, tolerance=0.15 if rounded else 1e-3),
        *_entropy(states @ matrix.t(), tolerance=1e-2 if rounded else 1e-4),
        *_loss(generator, device, dtype, tokens, tolerance=3e-2 if rounded else 1e-5),
    ]
    name = str(dtype).removeprefix("torch.")
    return [Contract(promise, name, error, tolerance) for promise, error, tolerance in found]


def _signals(logits: Tensor, labels: Tensor) -> list[tuple[str, float, float]]:
    exact = logits.double()
    log_probs = exact.log_softmax(dim=-1)
    definitions = {
        "ref_energy": -exact.logsumexp(dim=-1),
        "ref_entropy": -(log_probs.exp() * log_probs).sum(dim=-1),
        "ref_log_prob": log_probs.gather(1, labels.unsqueeze(1)).squeeze(1),
    }
    return [
        (
            f"{name.removeprefix('ref_')} is that of the logits",
            largest_difference(ENGINE_INPUTS[name].function(logits, labels), exact),
            1e-4,
        )
        for name, exact in definitions.items()
    ]


def _fused(states: Tensor, matrix: Tensor, labels: Tensor, tolerance: float) -> tuple[str, float, float]:
    fused = projected(states, matrix, labels, _INPUTS, 1.0, with_entropy=False).inputs
    logits = states @ matrix.t()
    errors = [largest_difference(fused[name], ENGINE_INPUTS[name].function(logits, labels)) for name in _INPUTS]
    return "a fused pass gives what complete logits give", largest(errors), tolerance


def _entropy(logits: Tensor, tolerance: float) -> list[tuple[str, float, float]]:
    leaf = logits.detach().requires_grad_()
    entropy = recomputed_entropy(leaf, _CHUNK)
    (gradient,) = torch.autograd.grad(entropy.sum(), leaf)
    exact = logits.detach().double().requires_grad_()
    log_probs = exact.log_softmax(dim=-1)
    expected = -(log_probs.exp() * log_probs).sum(dim=-1)
    (slope,) = torch.autograd.grad(expected.sum(), exact)
    relative = largest_difference(gradient, slope) / float(slope.abs().max())
    return [
        ("the update's entropy is that of the logits", largest_difference(entropy.detach(), expected.detach()), 1e-4),
        ("its gradient is autograd's, relative to the largest", relative, tolerance),
    ]


def _loss(
    generator: torch.Generator, device: str, dtype: torch.dtype, tokens: int, tolerance: float
) -> list[tuple[str, float, float]]:
    shape = (4, -(-tokens // 4))
    old = (-3 * torch.rand(shape, generator=generator)).to(device, dtype)
    new = (old.float() + 0.3 * torch.randn(shape, generator=generator).to(device)).to(dtype)
    advantages = torch.randn(shape, generator=generator).to(device, dtype)
    spans = torch.randint(len(Span), shape, generator=generator).to(device)
    energies = (10 * torch.randn(shape, generator=generator) - 12).to(device)
    mask = (torch.rand(shape, generator=generator) < 0.9).to(device)
    weights = token_weights(spans, energies, alpha=ALPHA, beta=BETA, response_mask=mask)
    action = mask & (spans == Span.ACTION)
    exact = energies[action].double()
    # Eq. 16-18
    standardised = (exact - exact.mean()) / (exact.var(correction=0) + 1e-6).sqrt()
    expected = torch.full(shape, ALPHA, dtype=torch.float64, device=device).masked_fill(~mask, 0.0)
    expected[action] = 1 + BETA * standardised.sigmoid()
    stock, stock_gradient = _with_gradient(lambda log_prob: policy_loss_of(log_prob, old, advantages, mask), new)
    ours, gradient = _with_gradient(lambda log_prob: _weighted(log_prob, old, advantages, mask, mask.float()), new)
    uniform = largest([largest_difference(ours, stock), largest_difference(gradient, stock_gradient)])
    loss = _weighted(new, old, advantages, mask, weights)
    return [
        ("weights are Eq. 16-18", largest_difference(weights, expected), 1e-6),
        ("with weights of 1, value and gradient are veRL's stock loss", uniform, 0.0),
        (
            "the weighted loss is Eq. 6",
            largest_difference(loss, _by_definition(new, old, advantages, expected)),
            tolerance,
        ),
    ]


def _weighted(log_prob: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    return weighted_policy_loss(
        log_prob, old, advantages, mask, weights, clip_low=CLIP_LOW, clip_high=CLIP_HIGH, clip_c=DUAL_CLIP
    ).loss


def _by_definition(log_prob: Tensor, old: Tensor, advantages: Tensor, weights: Tensor) -> Tensor:
    ratio, advantage = (log_prob.double() - old.double()).exp(), advantages.double()
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP_LOW, 1 + CLIP_HIGH) * advantage)
    gain = torch.where(advantage < 0, torch.maximum(gain, DUAL_CLIP * advantage), gain)
    return -(weights * gain).sum() / weights.sum()


def _with_gradient(loss_of: Callable[[Tensor], Tensor], log_prob: Tensor) -> tuple[Tensor, Tensor]:
    leaf = log_prob.detach().clone().requires_grad_()
    loss = loss_of(leaf)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient


def largest(errors: Iterable[float]) -> float:
    """Return the largest of some errors; NaN if one of them is, which `max` passes over unless it is the first."""
    return float(torch.tensor([*errors], dtype=torch.float64).max())


def largest_difference(one: Tensor, other: Tensor) -> float:
    """Return the largest absolute difference of two tensors of the same shape, computed in float64."""
    return float((one.double() - other.double()).abs().max())
