"""From a veRL training batch to token weights: spans, signal, weights, and what to log about them.

Tensors are padded ``(B, T)`` over response tokens, as veRL's trainer holds them while it computes advantages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from verl_actfocus.episodes import TagSettings
from verl_actfocus.integration.settings import ActFocusSettings
from verl_actfocus.tagging import SpanTagger
from verl_actfocus.weighting import SignalStatistics, Span, compute_signal, signal_statistics, token_weights


@dataclass(frozen=True)
class TokenWeights:
    """Weights of one training batch, and the signal behind them."""

    #: ``(B, T)`` float32; 0 outside the response mask.
    weights: Tensor
    #: ``(B, T)`` signal; None where it plays no part (``beta=0``).
    signal: Tensor | None
    #: Statistics of the signal over the action tokens; None like the signal.
    statistics: SignalStatistics | None


def compute_weights(
    spans: Tensor, response_mask: Tensor, signals: Mapping[str, Tensor], settings: ActFocusSettings
) -> TokenWeights:
    """Weight the response tokens of a training batch (He et al. 2026, Eq. 5, 16–18).

    Args:
        spans: ``(B, T)`` integer, values of `Span`.
        response_mask: ``(B, T)``, 1 on tokens that are trained on.
        signals: per-token tensors ``(B, T)`` that the signal is computed from (`verl_actfocus.weighting.SIGNALS`).
        settings: α, β, signal, ε and the weight of other tokens.

    Returns:
        Weights, signal and statistics.

    Raises:
        ValueError: the signal is not finite on an action token (names the sequence and the position).
    """
    signal = statistics = None
    if settings.needs_signal:
        signal = compute_signal(settings.signal, tensors=signals)
        statistics = signal_statistics(spans, signal, response_mask, settings.eps)
    weights = token_weights(
        spans,
        signal,
        alpha=settings.alpha,
        beta=settings.beta,
        eps=settings.eps,
        other=settings.other,
        response_mask=response_mask,
        statistics=statistics,
    )
    return TokenWeights(weights, signal, statistics)


def weight_metrics(spans: Tensor, response_mask: Tensor, advantages: Tensor, result: TokenWeights) -> dict[str, float]:
    """Summarise where tokens, weight and gradient weight lie.

    Args:
        spans: ``(B, T)``.
        response_mask: ``(B, T)``.
        advantages: ``(B, T)``.
        result: what `compute_weights` returned.

    Returns:
        ``actfocus/…`` metrics. ``token_share``: share of the response tokens. ``weight_share``: share of ``Σ w``.
        ``gradient_share``: share of ``Σ w·|Â|``, what the first gradient step is spent on. ``mean_weight``: mean weight
        of a token of the span. Shares of nothing are 0.
    """
    mask = response_mask.bool()
    pull = result.weights * advantages.abs()
    totals = (mask.sum().item(), result.weights[mask].sum().item(), pull[mask].sum().item())
    metrics = {}
    for span in Span:
        chosen = mask & (spans == span)
        sums = (chosen.sum().item(), result.weights[chosen].sum().item(), pull[chosen].sum().item())
        name = span.name.lower()
        for kind, part, total in zip(("token", "weight", "gradient"), sums, totals, strict=True):
            metrics[f"actfocus/{kind}_share/{name}"] = part / total if total else 0.0
        metrics[f"actfocus/mean_weight/{name}"] = sums[1] / sums[0] if sums[0] else 0.0
    metrics["actfocus/action_tokens"] = float((mask & (spans == Span.ACTION)).sum().item())
    if result.statistics is not None and result.statistics.count:
        metrics["actfocus/signal_mean"] = result.statistics.mean
        metrics["actfocus/signal_std"] = result.statistics.std
    return metrics


class ResponseTagger:
    """Tags whole responses of several turns for rollouts that did not tag while generating.

    A response of veRL's is the concatenation of the model's turns and of what the environment said between them; the
    mask tells them apart. Every run of model tokens is one turn and is tagged on its own.

    A turn continues the configured prefill only where what stands before it really ends with it.

    Args:
        tokenizer: the policy's tokenizer, a fast one.
        tags: tag style and prefill.
    """

    #: Tokens before a turn that are read in search of the prefill; no prefill is longer.
    _LOOK_BACK = 32

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tags: TagSettings) -> None:
        self._tokenizer = tokenizer
        self._prefill = tags.prefill
        self._plain = SpanTagger(tokenizer, action=tags.action, reasoning=tags.reasoning, prefill="")
        self._prefilled = SpanTagger(tokenizer, action=tags.action, reasoning=tags.reasoning, prefill=tags.prefill)

    def tag(self, prompt_ids: Tensor, response_ids: Tensor, response_mask: Tensor) -> Tensor:
        """Tag one response.

        Args:
            prompt_ids: ``(P,)`` token ids of the prompt.
            response_ids: ``(T,)`` token ids.
            response_mask: ``(T,)``, 1 on tokens of the model.

        Returns:
            ``(T,)`` int64 of `Span`; tokens that are not the model's are `Span.NONE`.
        """
        spans = torch.zeros_like(response_ids, dtype=torch.long)
        ids, mask = response_ids.tolist(), response_mask.tolist()
        context = prompt_ids.tolist()
        start = 0
        while start < len(ids):
            stop = start
            while stop < len(ids) and mask[stop]:
                stop += 1
            if stop > start:
                tagger = self._prefilled if self._is_prefilled(context + ids[:start]) else self._plain
                spans[start:stop] = torch.tensor([int(span) for span in tagger.tag(ids[start:stop])])
            start = stop + 1
        return spans

    def _is_prefilled(self, before: list[int]) -> bool:
        """Whether the tokens before a turn end with the prefill, white space aside."""
        if not self._prefill:
            return False
        text = str(self._tokenizer.decode(before[-self._LOOK_BACK :]))
        return text.rstrip().endswith(self._prefill.rstrip())
