"""Span of every token of a response."""

import operator
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from tokenizers import Tokenizer

from verl_actfocus.tagging.grammar import SpanGrammar, SpanScanner
from verl_actfocus.tagging.pieces import TokenPieces
from verl_actfocus.weighting import Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

AnyTokenizer: TypeAlias = "Tokenizer | PreTrainedTokenizerFast"


class SpanTagger:
    """Says of every token of a response whether it is reasoning, action, or neither (He et al. 2026, §3).

    A token is ``ACTION`` when at least one character of an action span's content, or a part of one, is among
    its bytes; else ``REASONING`` likewise; else ``NONE``. So a token that merges content with a tag counts as
    content, and so does whitespace inside a span. For the grammar of tags see
    :mod:`verl_actfocus.tagging.grammar`.

    Special tokens (end of sequence, chat template, padding, unknown) have no text: they are ``NONE``, inside
    a span too, and the text goes on behind them. A tag that is itself a token of the vocabulary, special or
    not, is a tag.

    Args:
        tokenizer: A fast tokenizer of Hugging Face transformers, or a tokenizer of the ``tokenizers``
            library.
        action: Opening and closing tag of the action, for example ``("<tool_call>", "</tool_call>")``; or
            ``"rest"``: everything that is neither reasoning nor a tag is action.
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
        action: Sequence[str] = ("<answer>", "</answer>"),
        reasoning: Sequence[str] = ("<think>", "</think>"),
        prefill: str | None = "<think>",
    ) -> None:
        self._grammar = SpanGrammar(action=action, reasoning=reasoning)
        self._prefill = (prefill or "").encode()
        backend = _backend(tokenizer)
        self._pieces = TokenPieces(backend, _special_ids(tokenizer, backend, set(self._grammar.tags)))
        for tag in self._grammar.tags:
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
            ValueError: If an id is not in the vocabulary.
        """
        stream = self.stream()
        for token_id in token_ids:
            stream.feed(token_id)
        return stream.finish()

    def stream(self) -> "SpanStream":
        """Begin to tag a response whose tokens come one by one.

        Returns:
            A stream at the beginning of a response. Streams of one tagger do not affect each other.
        """
        return SpanStream(self._pieces, self._grammar, self._prefill)

    def _check_writable(self, backend: Tokenizer, tag: str) -> None:
        """Raise ValueError unless a tag that is encoded and decoded is still there."""
        ids = backend.encode(tag, add_special_tokens=False).ids
        text = b"".join(part for token_id in ids for part in self._pieces[token_id]).decode(errors="replace")
        if tag not in text:
            raise ValueError(
                f"the tokenizer turns the tag {tag!r} into {text!r}, so no response would ever contain it; "
                "choose another tag, or add this one to the vocabulary (tokenizer.add_tokens)"
            )


class SpanStream:
    """Tags one response while it is generated; made by :meth:`SpanTagger.stream`.

    The cost of a token is that of its own bytes, however long the response is.
    """

    def __init__(self, pieces: TokenPieces, grammar: SpanGrammar, prefill: bytes) -> None:
        self._pieces = pieces
        self._scanner = SpanScanner(grammar)
        self._spans: list[Span] = []
        self._owners: deque[int | None] = deque()  # for each byte not decided yet, the token it belongs to
        self._finished = False
        self._read(prefill, owner=None)

    def feed(self, token_id: int) -> None:
        """Add the next token.

        Args:
            token_id: Its id.

        Raises:
            ValueError: If the id is not in the vocabulary, or the stream is finished.
        """
        if self._finished:
            raise ValueError("this stream is finished; begin a new one for the next response")
        position = len(self._spans)
        separator, text = self._pieces[operator.index(token_id)]
        self._spans.append(Span.NONE)
        self._read(separator, owner=None)
        self._read(text, owner=position)

    def finish(self) -> list[Span]:
        """End the response.

        Returns:
            One span per token fed.
        """
        self._finished = True
        self._assign(self._scanner.close())
        return list(self._spans)

    def _read(self, data: bytes, owner: int | None) -> None:
        """Read bytes of a token, or of none."""
        self._owners.extend([owner] * len(data))
        self._assign(self._scanner.read(data))

    def _assign(self, decided: list[Span]) -> None:
        """Give each decided byte's span to its token; ACTION outranks REASONING outranks NONE."""
        for span in decided:
            owner = self._owners.popleft()
            if owner is not None:
                self._spans[owner] = max(self._spans[owner], span)


def _backend(tokenizer: AnyTokenizer) -> Tokenizer:
    """The tokenizer as the ``tokenizers`` library has it."""
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
