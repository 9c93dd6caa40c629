"""An episode's tokens: prompts, how they grow turn by turn, and when they no longer fit.

Tokens are only ever appended: what the model sampled in turn *n* stands unchanged in the prompt of turn *n + 1* and in
the training data, and nothing is encoded twice. Prompts are veRL's: built by its own continuous-token builder, or for
the Qwen family without it (`tests/contract/test_encoding_matches_verl.py` holds the two together), as far as they agree
with the model's chat template; `verl_actfocus.episodes.templates` chooses.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from verl_actfocus.episodes.prompts import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Ends a turn in ChatML.
TURN_END = "<|im_end|>"
#: Model types (`config.json`) whose prompts veRL builds as ChatML with a line break between turns
#: (`verl/utils/tokenizer/continuous_token_wiring.py`).
CHATML_MODEL_TYPES = frozenset({"qwen2", "qwen3", "qwen3_moe"})
# A message is rendered after a short stand-in conversation, for templates that put something before the first one.
_STAND_IN: list[Message] = [{"role": "system", "content": "rules"}, {"role": "user", "content": "state"}]


class PromptBuilder(Protocol):
    """Turns messages into prompts; tokens are only ever appended."""

    def first(self, messages: Sequence[Message]) -> list[int]:
        """Return the first prompt: messages, generation prompt and prefill."""

    def response(self, text: str) -> list[int]:
        """Return the ids of a whole response (without the prefill) and its end of turn."""

    def following(self, ids: Sequence[int], messages: Sequence[Message], message: Message) -> list[int]:
        """Return what a further user message appends to the tokens `ids`, generation prompt and prefill included.

        Args:
            ids: all tokens so far; the last ones are the response.
            messages: the conversation up to the message before the response.
            message: the message after the response.
        """


class ChatML:
    """Prompts of the Qwen family, equal to veRL's `QwenContinuousTokenBuilder` and built without veRL.

    Args:
        tokenizer: Tokenizer with a ChatML template whose turns end in `<|im_end|>` and a line break.
        prefill: Text that every response continues.
        arguments: What the template is rendered with.

    Raises:
        ValueError: If the tokenizer has no `<|im_end|>`, or a line break is not one token.
        jinja2.TemplateError: If the template refuses a system or a second user message.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prefill: str, arguments: Mapping[str, Any] | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self._arguments = dict(arguments or {})
        self.turn_end_id = _single_id(tokenizer, TURN_END)
        self._newline_id = _single_id(tokenizer, "\n")
        self._prefill_ids = encode(tokenizer, prefill)
        self._stand_in_ids = self._render(_STAND_IN, generation_prompt=False)

    def first(self, messages: Sequence[Message]) -> list[int]:
        """See `PromptBuilder`."""
        return self._render(messages, generation_prompt=True) + self._prefill_ids

    def following(self, ids: Sequence[int], messages: Sequence[Message], message: Message) -> list[int]:
        """See `PromptBuilder`; the line break belongs to `<|im_end|>` and is left out after another end of turn."""
        rendered = self._render([*_STAND_IN, message], generation_prompt=True)[len(self._stand_in_ids) :]
        line_break = [self._newline_id] if ids[-1] == self.turn_end_id else []
        return [*line_break, *rendered, *self._prefill_ids]

    def response(self, text: str) -> list[int]:
        """See `PromptBuilder`."""
        return [*encode(self.tokenizer, text), self.turn_end_id]

    def _render(self, messages: Sequence[Message], *, generation_prompt: bool) -> list[int]:
        text = self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generation_prompt, **self._arguments
        )
        return encode(self.tokenizer, str(text))


class VerlPrompts:
    """Prompts of any family, built by veRL itself.

    Args:
        builder: veRL's `ContinuousTokenBuilder` of the model.
        tokenizer: Encodes responses and the prefill.
        prefill: Text that every response continues.
        end: Token that closes a response.
    """

    def __init__(self, builder: Any, tokenizer: PreTrainedTokenizerBase, prefill: str, end: int) -> None:
        self._builder, self._tokenizer, self._end = builder, tokenizer, end
        self._prefill_ids = encode(tokenizer, prefill)

    def first(self, messages: Sequence[Message]) -> list[int]:
        """See `PromptBuilder`."""
        return [*self._builder.build_initial_tokens(list(messages)), *self._prefill_ids]

    def response(self, text: str) -> list[int]:
        """See `PromptBuilder`."""
        return [*encode(self._tokenizer, text), self._end]

    def following(self, ids: Sequence[int], messages: Sequence[Message], message: Message) -> list[int]:
        """See `PromptBuilder`.

        Raises:
            ValueError: the chat template drops tokens that were sampled.
        """
        # The text of the response is irrelevant: the builder appends to its tokens and renders only the new message.
        previous = [*messages, {"role": "assistant", "content": ""}]
        merged = self._builder.merge_context_tokens(previous, [*previous, message], list(ids))
        if merged.removed_prefix_token_count:
            raise ValueError(
                "the chat template drops tokens of earlier turns, so that training would see tokens that were never "
                "sampled; choose a model whose template keeps them"
            )
        return [*merged.token_ids[len(ids) :], *self._prefill_ids]


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Most tokens of an episode, as veRL counts them."""

    #: The first prompt (`data.max_prompt_length`).
    prompt: int
    #: Everything after it, responses and later messages (`data.max_response_length`).
    response: int
    #: Both together (`rollout.max_model_len`); None sets no limit of its own.
    total: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and value < 1:
                raise ValueError(f"the most tokens of {name!r} is {value}: it must be at least 1")

    @property
    def most(self) -> int:
        """Most tokens of an episode altogether."""
        both = self.prompt + self.response
        return both if self.total is None else min(both, self.total)

    def within(self, context: int | None) -> Lengths:
        """Return the lengths for a model whose context holds so many tokens; None for a context without a limit."""
        limits = [limit for limit in (self.total, context) if limit is not None]
        return dataclasses.replace(self, total=min(limits, default=None))


class EpisodeTokens:
    """The growing token sequence of one episode.

    Args:
        prompts: Makes the prompts.
        lengths: Most tokens of the episode.
        turn_tokens: Most tokens of a response.

    Attributes:
        ids: Tokens so far; before a response, its prompt.
        prompt_length: Tokens of the first prompt. The lists below have one value for each token after it.
        mask: 1 on what the model sampled, 0 on what the environment said.
        spans: `verl_actfocus.weighting.Span` of every token, `NONE` (0) on what the environment said.
        log_probs: Log-probability of every sampled token, 0.0 elsewhere.
        turn_ends: Place of every response's last token in these lists.
    """

    def __init__(self, prompts: PromptBuilder, lengths: Lengths, turn_tokens: int) -> None:
        self._prompts, self._lengths, self._turn_tokens = prompts, lengths, turn_tokens
        self._messages: list[Message] = []
        self.ids: list[int] = []
        self.prompt_length = 0
        self.mask: list[int] = []
        self.spans: list[int] = []
        self.log_probs: list[float] = []
        self.turn_ends: list[int] = []

    @property
    def max_tokens(self) -> int:
        """Most tokens that the next response may have."""
        return min(self._turn_tokens, self._room)

    @property
    def turns(self) -> list[int]:
        """Index of the response that every token belongs to, from 0; -1 on what the environment said."""
        ends = self.turn_ends
        return [bisect_left(ends, place) if sampled else -1 for place, sampled in enumerate(self.mask)]

    @property
    def _room(self) -> int:
        room = self._lengths.response - len(self.mask)
        return room if self._lengths.total is None else min(room, self._lengths.total - len(self.ids))

    def open(self, messages: Sequence[Message]) -> str | None:
        """Begin with the first prompt; return why it does not fit, None if it does.

        Args:
            messages: System and user message; a worked turn stands between them as one that was played, so that it
                reads as the turns that follow.
        """
        self._messages = list(messages)
        self.ids, _ = conversation(self._prompts, messages, opening=len(messages))
        self.prompt_length = count = len(self.ids)
        if count > self._lengths.prompt:
            return (
                f"the first prompt has {count} tokens, and at most {self._lengths.prompt} are allowed; raise "
                "data.max_prompt_length"
            )
        if self._room < 1:
            return (
                f"the first prompt has {count} tokens, which fill the {self._lengths.total} of the model's context or "
                "of actor_rollout_ref.rollout.max_model_len; raise it"
            )
        return None

    def add_response(self, ids: Sequence[int], spans: Sequence[int], log_probs: Sequence[float]) -> None:
        """Append what the model sampled."""
        self._append(ids, 1, spans, log_probs)
        self.turn_ends.append(len(self.mask) - 1)

    def add_message(self, message: Message) -> bool:
        """Append a user message and the prefill; return whether they fit, and append nothing if they do not."""
        added = self._prompts.following(self.ids, self._messages, message)
        if len(added) >= self._room:
            return False
        self._messages += [{"role": "assistant", "content": ""}, message]
        self._append(added, 0, [0] * len(added), [0.0] * len(added))
        return True

    def _append(self, ids: Sequence[int], mask: int, spans: Sequence[int], log_probs: Sequence[float]) -> None:
        if not len(ids) == len(spans) == len(log_probs):
            raise ValueError(f"{len(ids)} tokens came with {len(spans)} spans and {len(log_probs)} log-probabilities")
        self.ids.extend(ids)
        self.mask.extend([mask] * len(ids))
        self.spans.extend(int(span) for span in spans)
        self.log_probs.extend(log_probs)


def conversation(
    prompts: PromptBuilder, messages: Sequence[Message], *, opening: int = 2
) -> tuple[list[int], list[int]]:
    """Encode a conversation whose responses are known: the worked turn of a prompt, an episode that is imitated.

    Args:
        prompts: Makes the prompts of the model.
        messages: System, user, assistant, user, …; assistant texts without the prefill.
        opening: Messages of the first prompt; the response of a worked turn among them is prompt.

    Returns:
        The token ids, and a mask of the same length that is 1 on the tokens of the responses behind the opening (their
        ends of turn included) and 0 elsewhere.
    """
    ids = prompts.first(messages[:2])
    mask = [0] * len(ids)
    for place, message in enumerate(messages[2:], 2):
        is_response = message["role"] == "assistant"
        content, before = message["content"], messages[: place - 1]
        piece = prompts.response(content) if is_response else prompts.following(ids, before, message)
        ids += piece
        mask += [int(is_response and place >= opening)] * len(piece)
    return ids, mask


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of a text, without the special tokens that a tokenizer adds to a whole text."""
    return [int(token) for token in tokenizer.encode(text, add_special_tokens=False)] if text else []


def _single_id(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    ids = encode(tokenizer, text)
    if len(ids) != 1:
        raise ValueError(f"the tokenizer splits {text!r} into {len(ids)} tokens; a ChatML tokenizer keeps it as one")
    return ids[0]
