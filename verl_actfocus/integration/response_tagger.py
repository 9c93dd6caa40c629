"""Spans of responses that the rollout did not tag."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from verl_actfocus.episodes import TagSettings
from verl_actfocus.tagging import SpanTagger


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
            prompt_ids: `(P,)` token ids of the prompt.
            response_ids: `(T,)` token ids.
            response_mask: `(T,)`, 1 on tokens of the model.

        Returns:
            `(T,)` int64 of `Span`; tokens that are not the model's are `Span.NONE`.
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
