"""Span of every token of a response."""

import codecs
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from tokenizers import Tokenizer

from verl_actfocus.episodes.tags import STANDARD_TAGS, TagSettings
from verl_actfocus.tagging.grammar import SpanGrammar
from verl_actfocus.tagging.pieces import TokenPieces
from verl_actfocus.weighting import Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

AnyTokenizer: TypeAlias = "Tokenizer | PreTrainedTokenizerFast"


class SpanTagger:
    """Says of every token of a response whether it is reasoning, action, or neither (He et al. 2026, §3).

    A token is `ACTION` when at least one character of an action span's content, or a part of one, is among
    its bytes; else `REASONING` likewise; else `NONE`. So a token that merges content with a tag counts as
    content, and so does whitespace inside a span. For the grammar of tags see
    `verl_actfocus.tagging.grammar`.

    Special tokens (end of sequence, chat template, padding, unknown) and ids beyond the vocabulary have no text: they
    are `NONE`, inside a span too, and the text goes on behind them. A tag that is itself a token of the vocabulary,
    special or not, is a tag.

    Args:
        tokenizer: A fast tokenizer of Hugging Face transformers, or a tokenizer of the `tokenizers`
            library.
        action: Opening and closing tag of the action, for example `("<tool_call>", "</tool_call>")`; or
            `"rest"`: everything that is neither reasoning nor a tag is action.
        reasoning: Opening and closing tag of the reasoning.
        prefill: Text at the end of the prompt that belongs to the response's grammar, such as an opening tag
            the chat template writes. It is read before the response and has no tokens. Empty or None: there
            is none.

    Raises:
        TypeError: If the tokenizer is a slow one, or none at all.
        ValueError: If the tags can be confused, or the tokenizer cannot write one of them.

    Example:
        >>> from tokenizers import models
        >>> words = ["<think>", "</think>", "<answer>", "</answer>", "Go", "Right"]
        >>> tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
        >>> [span.name for span in SpanTagger(tokenizer).tag([4, 1, 2, 5, 3])]
        ['REASONING', 'NONE', 'NONE', 'ACTION', 'NONE']
    """

    def __init__(
        self,
        tokenizer: AnyTokenizer,
        action: tuple[str, str] | str = STANDARD_TAGS.action,
        reasoning: tuple[str, str] = STANDARD_TAGS.reasoning,
        prefill: str | None = STANDARD_TAGS.prefill,
    ) -> None:
        # TagSettings checks what it is given.
        tags = TagSettings(action=action, reasoning=reasoning, prefill=prefill or "")
        self._grammar = SpanGrammar(tags)
        self._prefill = tags.prefill.encode()
        self._backend = backend = _backend(tokenizer)
        #: Ids of the special tokens, tags excepted: end of sequence, chat template, padding, unknown.
        self.special_ids = frozenset(_special_ids(tokenizer, backend, set(tags.tags)))
        self._pieces = TokenPieces(backend, self.special_ids)
        for tag in tags.tags:
            self._check_writable(backend, tag)

    def tag(self, token_ids: Iterable[int]) -> list[Span]:
        """Tag a response.

        A response that was cut off is tagged as it stands: its open span counts, and a tag that is not
        finished is content of that span. Every other token has the span that it has in the whole response.

        Args:
            token_ids: The response's tokens, without the prompt.

        Returns:
            One span per token.

        Raises:
            ValueError: If an id is negative.
        """
        return self.read(token_ids)[1]

    def read(self, token_ids: Iterable[int]) -> tuple[str, list[Span]]:
        """Decode and tag a response at once, so that its text and its spans cannot disagree.

        Args:
            token_ids: The response's tokens, without the prompt.

        Returns:
            The text without special tokens (a tag that is a special token is text all the same), the prefill not
            included, and one span per token.

        Raises:
            ValueError: If an id is negative.
        """
        text = bytearray(self._prefill)
        owners: list[int | None] = [None] * len(text)  # for each byte, the token it belongs to
        spans: list[Span] = []
        for place, token_id in enumerate(token_ids):
            separator, own = self._pieces[operator.index(token_id)]
            text += separator + own
            owners += [None] * len(separator) + [place] * len(own)
            spans.append(Span.NONE)
        for owner, span in zip(owners, self._grammar.spans(bytes(text)), strict=True):
            if owner is not None:  # ACTION outranks REASONING outranks NONE
                spans[owner] = max(spans[owner], span)
        return text[len(self._prefill) :].decode(errors="replace"), spans

    def texts(self, token_ids: Iterable[int]) -> list[str]:
        """Return what each token shows: joined, the text that `read` decodes, with special tokens written out.

        A character that several tokens share belongs to the token that completes it.

        Args:
            token_ids: Tokens of a text.

        Raises:
            ValueError: If an id is negative.
        """
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        texts: list[str] = []
        for token_id in map(operator.index, token_ids):
            added = b"".join(self._pieces[token_id])
            special = "" if added else self._backend.id_to_token(token_id) or ""
            texts.append(decoder.decode(added) + special)
        if texts:
            texts[-1] += decoder.decode(b"", final=True)
        return texts

    def _check_writable(self, backend: Tokenizer, tag: str) -> None:
        """Raise ValueError unless a tag that is encoded and decoded is still there."""
        ids = backend.encode(tag, add_special_tokens=False).ids
        text = b"".join(part for token_id in ids for part in self._pieces[token_id]).decode(errors="replace")
        if tag not in text:
            raise ValueError(
                f"the tokenizer turns the tag {tag!r} into {text!r}, so no response would ever contain it; "
                "choose another tag, or add this one to the vocabulary (tokenizer.add_tokens)"
            )


def _backend(tokenizer: AnyTokenizer) -> Tokenizer:
    """The tokenizer as the `tokenizers` library has it."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    # Here, because it takes seconds and whoever has such a tokenizer has imported it already.
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise TypeError(
            "tokenizer must be a fast tokenizer of Hugging Face transformers (load it with use_fast=True) "
            f"or a tokenizers.Tokenizer, got {type(tokenizer).__module__}.{type(tokenizer).__qualname__}"
        )
    return tokenizer.backend_tokenizer


def _special_ids(tokenizer: AnyTokenizer, backend: Tokenizer, tags: set[str]) -> set[int]:
    """Ids of the special tokens that are not tags."""
    special = {i for i, token in backend.get_added_tokens_decoder().items() if token.special}
    if not isinstance(tokenizer, Tokenizer):
        special |= set(tokenizer.all_special_ids)
    return {i for i in special if backend.id_to_token(i) not in tags}
