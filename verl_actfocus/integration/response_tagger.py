"""Spans of responses that the rollout did not tag."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from verl_actfocus.episodes import TagSettings
from verl_actfocus.tagging import SpanTagger
from verl_actfocus.weighting import Span


class ResponseTagger:
    """Tags whole responses of several turns for rollouts that did not tag while generating.

    A response of veRL's is the concatenation of the model's turns and of what the environment said between them; the
    mask tells them apart. Every run of model tokens is one turn and is tagged on its own. But one that ended inside a
    span, and that neither a special token nor a new prefill has ended since, is gone on with by the next: a tool may
    have answered in the middle of the reasoning, or a loop written a closing tag for the model. Then both are tagged as
    one text, with what stands between them.

    A turn continues the configured prefill only where what stands before it really ends with it.

    Args:
        tokenizer: the policy's tokenizer, a fast one.
        tags: tag style and prefill.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tags: TagSettings) -> None:
        self._prefill = tags.prefill.strip()
        #: Spans in which a turn may be interrupted. With action="rest" all behind the reasoning is one, up to the end.
        self._interruptible = (Span.REASONING,) if isinstance(tags.action, str) else (Span.REASONING, Span.ACTION)
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

        def prefilled(start: int) -> bool:
            # However many tokens the prefill has, and white space aside.
            return bool(self._prefill) and "".join(texts[: len(prompt) + start]).rstrip().endswith(self._prefill)

        runs = _runs(mask)
        while runs:
            start, stop = runs.pop(0)
            tagger = self._prefilled if prefilled(start) else self._plain
            found = tagger.tag(ids[start:stop])
            while runs and found[-1] in self._interruptible and not prefilled(runs[0][0]):
                if not self._plain.special_ids.isdisjoint(ids[stop - 1 : runs[0][0]]):
                    break
                stop = runs.pop(0)[1]
                found = tagger.tag(ids[start:stop])
            spans[start:stop] = torch.tensor([int(span) for span in found])
        spans[response_mask == 0] = int(Span.NONE)
        return spans

    def texts(self, ids: Tensor) -> list[str]:
        """Return what each token shows, as the spans were found in it: see `SpanTagger.texts`."""
        return self._plain.texts(ids.tolist())


def _runs(mask: list[int]) -> list[tuple[int, int]]:
    """Return where every unbroken run of model tokens starts and stops."""
    runs, start = [], 0
    for inside, group in groupby(mask, bool):
        stop = start + sum(1 for _ in group)
        if inside:
            runs.append((start, stop))
        start = stop
    return runs
