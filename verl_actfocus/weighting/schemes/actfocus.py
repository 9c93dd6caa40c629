"""ActFocus: little weight for reasoning, more for action, most for the action tokens with the highest signal.

He et al. 2026, Eq. 5 and 16-18: `w = alpha` on reasoning tokens, `w = 1 + beta * sigmoid((E - mean) /
std)` on action tokens, with the mean and the standard deviation of `E`` over all action tokens of the
batch. Energies are the signal of the paper; any signal of `verl_actfocus.weighting.signals` takes the same
way.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from verl_actfocus.weighting._checks import (
    as_bool_mask,
    check_batch,
    check_floating,
    check_number,
    check_same_shape,
    first_position,
)
from verl_actfocus.weighting.base import TokenBatch, Weighting, register_weighting
from verl_actfocus.weighting.signals import DEFAULT_SOURCE, SIGNALS, SOURCES, compute_signal
from verl_actfocus.weighting.spans import Span

DEFAULT_ALPHA = 0.1
"""Weight of reasoning tokens (He et al. 2026, one setting for all experiments)."""
DEFAULT_BETA = 0.5
"""Largest extra weight of an action token (He et al. 2026, one setting for all experiments)."""
DEFAULT_EPS = 1e-6
"""Added to the variance; the paper leaves it open. It decides only when all signals are (nearly) equal."""


@register_weighting
@dataclass(frozen=True, kw_only=True)
class ActFocus(Weighting):
    """The weights of He et al. 2026 (Eq. 5, 16-18): `token_weights` with these settings."""

    name = "actfocus"
    reads_rows = False
    remarks: ClassVar[Mapping[str, str]] = {
        "alpha": "auto, which measures it, is for actfocus train, compare and reproduce"
    }

    alpha: float = DEFAULT_ALPHA
    """Weight of reasoning tokens, in [0, 1]."""
    beta: float = DEFAULT_BETA
    """Largest addition to the weight of an action token, at least 0; with 0 no signal is needed."""
    signal: str = "energy"
    """What spreads the weight over the action tokens: a name of `SIGNALS` (Eq. 4, 20-22)."""
    signal_source: str = DEFAULT_SOURCE
    """Model whose logits the signal is a function of, a name of `SOURCES`. The paper's is the frozen reference model;
    `old`, the policy before the update, costs no forward pass of its own and drifts from it as training goes on."""
    eps: float = DEFAULT_EPS
    """Added to the variance of the signal, positive."""
    other: float | None = None
    """Weight of response tokens in neither span, at least 0; None means `alpha`. The paper leaves it open."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("alpha", 0 <= self.alpha <= 1, "must lie in [0, 1]")
        self.require("beta", self.beta >= 0, "must be at least 0")
        self.require("eps", self.eps > 0, "must be positive")
        self.require("other", self.other is None or self.other >= 0, "must be at least 0, or null for alpha's value")
        self.require("signal", self.signal in SIGNALS, f"is not a signal; choose one of {sorted(SIGNALS)}")
        self.require("signal_source", self.signal_source in SOURCES, f"is no source; choose one of {sorted(SOURCES)}")
        able = [name for name, signal in SIGNALS.items() if signal.inputs_from(self.signal_source) is not None]
        self.require(
            "signal_source",
            self.signal in able,
            f"is for the signals {able}; leave it at {DEFAULT_SOURCE!r} with signal={self.signal!r}",
        )

    @property
    def needs(self) -> tuple[str, ...]:
        return ("spans", *(self._signal_inputs.values() if self.beta > 0 else ()))

    @property
    def _signal_inputs(self) -> Mapping[str, str]:
        """Parameter of the signal's function → input of the batch."""
        return SIGNALS[self.signal].inputs_from(self.signal_source) or {}

    def weights(self, batch: TokenBatch) -> Tensor:
        """Return the weights.

        Raises:
            ValueError: If the signal of an action token is not finite.
        """
        return token_weights(
            batch.spans,
            self.token_signal(batch),
            alpha=self.alpha,
            beta=self.beta,
            eps=self.eps,
            other=self.other,
            response_mask=batch.response_mask,
        )

    def token_signal(self, batch: TokenBatch) -> Tensor | None:
        """Return the signal of every token; None with `beta=0`, where it plays no part."""
        if self.beta == 0:
            return None
        tensors = {parameter: batch.input(name) for parameter, name in self._signal_inputs.items()}
        return compute_signal(self.signal, tensors=tensors)

    def metrics(self, batch: TokenBatch, weights: Tensor) -> dict[str, float]:
        """Return `signal_mean` and `signal_std` over the action tokens, where a signal plays a part."""
        signal = self.token_signal(batch)
        if signal is None:
            return {}
        statistics = signal_statistics(batch.spans, signal, batch.response_mask, self.eps)
        return {"signal_mean": statistics.mean, "signal_std": statistics.std} if statistics.count else {}


@dataclass(frozen=True)
class SignalStatistics:
    """Mean and spread of a signal over the action tokens of a batch (He et al. 2026, Eq. 16)."""

    mean: float
    """Mean; NaN when there is no action token."""
    std: float
    """`sqrt(population variance + eps)`; NaN when there is no action token."""
    count: int
    """Number of action tokens."""


@torch.no_grad()
def signal_statistics(
    spans: Tensor, signal: Tensor, response_mask: Tensor | None = None, eps: float = DEFAULT_EPS
) -> SignalStatistics:
    """Mean and standard deviation of a signal over all action tokens of a batch (He et al. 2026, Eq. 16).

    Args:
        spans: `Span` values, shape (B, T), integer.
        signal: Signal per token, shape (B, T), floating point. Read on action tokens only, and summed in
            float64.
        response_mask: 1 on response tokens, 0 on padding and on tokens the policy did not write, shape (B,
            T). A span where it is 0 does not count. None: every position is a response token.
        eps: Added to the population variance, inside the root.

    Returns:
        The statistics. Without an action token the count is 0 and mean and standard deviation are NaN.

    Raises:
        ValueError: If shapes, dtypes, span values or `eps` are wrong, or the signal of an action token is
            not finite.

    Example:
        >>> spans = torch.tensor([[Span.REASONING, Span.ACTION, Span.ACTION]])
        >>> signal_statistics(spans, torch.tensor([[9.0, -3.0, -1.0]])).mean
        -2.0
    """
    check_number("eps", eps, low=0.0, low_inclusive=False)
    spans_BT, _ = _checked_spans(spans, response_mask)
    action_BT = spans_BT == Span.ACTION
    return _statistics(_action_signal(signal, spans, action_BT), eps)


@torch.no_grad()
def token_weights(
    spans: Tensor,
    signal: Tensor | None,
    *,
    alpha: float = DEFAULT_ALPHA,
    beta: float = DEFAULT_BETA,
    eps: float = DEFAULT_EPS,
    other: float | None = None,
    response_mask: Tensor | None = None,
) -> Tensor:
    """Weight of every token of a batch (He et al. 2026, Eq. 5 and 16-18).

    Uniform weights, the stock policy loss, are `alpha=1, beta=0`.

    Args:
        spans: `Span` values, shape (B, T), integer.
        signal: Signal per token, shape (B, T), floating point. Read on action tokens only, and only when
            `beta > 0`; it may be None when `beta == 0`.
        alpha: Weight of reasoning tokens, from 0 to 1.
        beta: Largest extra weight of an action token, at least 0: action weights lie between 1 and `1 +
            beta`.
        eps: Added to the population variance of the signal, inside the root.
        other: Weight of response tokens in neither span (tags, chat-template tokens), at least 0. None:
            `alpha`. The paper leaves it open.
        response_mask: 1 on response tokens, 0 on padding and on tokens the policy did not write, shape (B,
            T). Where it is 0 the weight is 0 and the token enters no statistic, whatever its span. None:
            every position is a response token, so padding (span `NONE`) has weight `other` and is left
            for the loss to mask.

    Returns:
        Weights, shape (B, T), float32, without gradient. Finite always, also for a batch without an action
        token.

    Raises:
        ValueError: If shapes, dtypes, span values or parameters are wrong, or the signal of an action token
            is not finite.

    Example:
        >>> spans = torch.tensor([[Span.REASONING, Span.ACTION, Span.ACTION]])
        >>> token_weights(spans, torch.tensor([[0.0, -3.0, -1.0]]), alpha=0.1, beta=0.5)
        tensor([[0.1000, 1.1345, 1.3655]])
    """
    check_number("alpha", alpha, low=0.0, high=1.0)
    check_number("beta", beta, low=0.0)
    check_number("eps", eps, low=0.0, low_inclusive=False)
    if other is not None:
        check_number("other", other, low=0.0)
    spans_BT, response_BT = _checked_spans(spans, response_mask)
    check_same_shape("spans", spans, {"signal": signal})

    other_weight = float(alpha if other is None else other)
    weights_BT = torch.full(spans.shape, other_weight, dtype=torch.float32, device=spans.device)
    weights_BT[spans_BT == Span.REASONING] = float(alpha)
    action_BT = spans_BT == Span.ACTION
    weights_BT[action_BT] = 1.0
    if beta > 0:
        if signal is None:
            raise ValueError(f"signal is None; beta = {beta:g} needs one (it may be None only for beta = 0)")
        action_signal = _action_signal(signal, spans, action_BT)
        if action_signal.numel() > 0:
            statistics = _statistics(action_signal, eps)
            standardised = (action_signal - statistics.mean) / statistics.std  # Eq. 17
            weights_BT[action_BT] = (1.0 + beta * torch.sigmoid(standardised)).float()  # Eq. 18
    return torch.where(response_BT, weights_BT, 0.0)


def _checked_spans(spans: Tensor, response_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Spans with NONE outside the response, and the response mask as booleans."""
    check_batch("spans", spans)
    if spans.is_floating_point() or spans.is_complex() or spans.dtype == torch.bool:
        raise ValueError(f"spans must be an integer tensor of Span values, got {spans.dtype}")
    check_same_shape("spans", spans, {"response_mask": response_mask})
    if response_mask is None:
        response_BT = torch.ones_like(spans, dtype=torch.bool)
    else:
        response_BT = as_bool_mask("response_mask", response_mask)
    spans_BT = torch.where(response_BT, spans, int(Span.NONE))
    place = first_position((spans_BT < min(Span)) | (spans_BT > max(Span)))
    if place is not None:
        known = ", ".join(f"{span.value} ({span.name})" for span in Span)
        raise ValueError(f"spans must hold only {known}; found another value at {place}")
    return spans_BT, response_BT


def _action_signal(signal: Tensor, spans: Tensor, action_BT: Tensor) -> Tensor:
    """The signal of the action tokens, shape (N,), float64, after checking that it is finite."""
    check_same_shape("spans", spans, {"signal": signal})
    check_floating("signal", signal)
    place = first_position(action_BT & ~torch.isfinite(signal))
    if place is not None:
        raise ValueError(
            f"the signal of the action token at {place} is not finite; "
            "look for logits that are NaN, +inf, or all -inf at the position that predicts this token"
        )
    return signal[action_BT].double()


def _statistics(action_signal: Tensor, eps: float) -> SignalStatistics:
    """Statistics of the action tokens' signal (Eq. 16)."""
    count = action_signal.numel()
    if count == 0:
        return SignalStatistics(mean=math.nan, std=math.nan, count=0)
    mean = action_signal.mean()
    variance = (action_signal - mean).square().mean()
    return SignalStatistics(mean=mean.item(), std=(variance + eps).sqrt().item(), count=count)
