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

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tags: TagSettings) -> None:
        self._prefill = tags.prefill.strip()
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
        prompt = prompt_ids.tolist()
        texts = self._plain.texts(prompt + ids) if self._prefill else []
        start = 0
        while start < len(ids):
            stop = start
            while stop < len(ids) and mask[stop]:
                stop += 1
            if stop > start:
                # However many tokens the prefill has, and white space aside.
                before = "".join(texts[: len(prompt) + start]).rstrip()
                tagger = self._prefilled if self._prefill and before.endswith(self._prefill) else self._plain
                spans[start:stop] = torch.tensor([int(span) for span in tagger.tag(ids[start:stop])])
            start = stop + 1
        return spans

    def texts(self, ids: Tensor) -> list[str]:
        """Return what each token shows, as the spans were found in it: see `SpanTagger.texts`."""
        return self._plain.texts(ids.tolist())
