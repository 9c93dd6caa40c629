"""The tokens of an episode, the same as in a veRL rollout: prompts, room, and when a prompt no longer fits.

The counterpart of the token side of `verl_actfocus.integration.agent_loop`;
``tests/contract/test_evaluation_matches_training.py`` holds the two together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from verl_actfocus.episodes.prompts import Message
from verl_actfocus.evaluation.settings import Lengths
from verl_actfocus.generation.encoding import TurnEncoder

#: Model types (``config.json``) whose prompts veRL builds as ChatML with a line break between turns
#: (``verl/utils/tokenizer/continuous_token_wiring.py``).
CHATML_MODEL_TYPES = frozenset({"qwen2", "qwen3", "qwen3_moe"})
#: Tokenizer classes that say "what is in the file" and nothing about a model family.
_AS_IN_THE_FILE = ("PreTrainedTokenizerFast", "TokenizersBackend")


class PromptBuilder(Protocol):
    """Turns messages into prompts; tokens are only ever appended."""

    def first(self, messages: list[Message]) -> list[int]:
        """Return the first prompt: messages, generation prompt and prefill."""

    def following(self, ids: Sequence[int], messages: list[Message], message: Message) -> list[int]:
        """Return what a further user message appends to the tokens `ids`, generation prompt and prefill included.

        Args:
            ids: all tokens so far; the last ones are the response.
            messages: system and user messages so far.
            message: the message after the response.
        """


class ChatML:
    """Prompts of the Qwen family, built without veRL."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prefill: str) -> None:
        self._encoder = TurnEncoder(tokenizer, prefill=prefill)

    def first(self, messages: list[Message]) -> list[int]:
        """See `PromptBuilder`."""
        return self._encoder.initial(messages)

    def following(self, ids: Sequence[int], messages: list[Message], message: Message) -> list[int]:
        """See `PromptBuilder`; the line break belongs to ``<|im_end|>`` and is left out after another end of turn."""
        added = self._encoder.next_turn(message)
        return added if ids[-1] == self._encoder.turn_end_id else added[1:]


class VerlPrompts:
    """Prompts of any other family, built by veRL itself.

    Raises:
        ValueError: veRL has no builder for the model, or its builder does not take the tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model_type: str | None, prefill: str) -> None:
        from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

        self._builder = create_continuous_token_builder(tokenizer, hf_model_type=model_type)
        self._prefill = [int(token) for token in tokenizer.encode(prefill, add_special_tokens=False)] if prefill else []

    def first(self, messages: list[Message]) -> list[int]:
        """See `PromptBuilder`."""
        return [*self._builder.build_initial_tokens(messages), *self._prefill]

    def following(self, ids: Sequence[int], messages: list[Message], message: Message) -> list[int]:
        """See `PromptBuilder`."""
        # The text of the response is irrelevant: the builder appends to its tokens.
        previous = [*messages, {"role": "assistant", "content": ""}]
        merged = self._builder.merge_context_tokens(previous, [*previous, message], list(ids))
        if merged.removed_prefix_token_count:
            raise ValueError("the chat template drops tokens of earlier turns; such a model cannot be trained either")
        return [*merged.token_ids[len(ids) :], *self._prefill]


def prompt_builder(tokenizer: PreTrainedTokenizerBase, model_type: str | None, prefill: str) -> PromptBuilder:
    """Return the builder of a model's prompts.

    Args:
        tokenizer: the model's tokenizer.
        model_type: ``model_type`` of the model's ``config.json``, None if there is none.
        prefill: text that every response continues.

    Raises:
        ValueError: the tokenizer does not fit the model's family, or has no chat template.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path} has no chat template, so that nobody knows what a prompt looks "
            "like; evaluate an instruction-tuned model, or add a template"
        )
    if model_type in CHATML_MODEL_TYPES:
        return ChatML(tokenizer, prefill)
    return VerlPrompts(tokenizer, model_type, prefill)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer as its own files describe it.

    `AutoTokenizer` goes by the model where both lie in one folder, as in a checkpoint of veRL's: a tokenizer of one's
    own beside a ``qwen2`` configuration would become Qwen2's and split text in another way than in training.

    Args:
        name: folder or hub name.

    Raises:
        ValueError: there is no tokenizer.
    """
    described = Path(name) / "tokenizer_config.json"
    settings: dict[str, Any] = json.loads(described.read_text(encoding="utf-8")) if described.exists() else {}
    family = PreTrainedTokenizerFast if settings.get("tokenizer_class") in _AS_IN_THE_FILE else AutoTokenizer
    try:
        return family.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"no tokenizer could be read from {name}: {_first_line(error)}") from error


def tokenizer_identity(name: str, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """Return what tells a tokenizer from another: where it lies, and a digest of its vocabulary and chat template."""
    folder = Path(name).expanduser()
    content = json.dumps([sorted(tokenizer.get_vocab().items()), tokenizer.chat_template])
    return {
        "tokenizer": str(folder.resolve()) if folder.is_dir() else name,
        "tokenizer_sha256": hashlib.sha256(content.encode()).hexdigest(),
    }


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class Transcript:
    """The growing token sequence of one episode.

    Args:
        builder: makes the prompts.
        lengths: most tokens of the episode.
        turn_tokens: most tokens of a response.

    Attributes:
        ids: Tokens so far; before a response, its prompt.
    """

    def __init__(self, builder: PromptBuilder, lengths: Lengths, turn_tokens: int) -> None:
        self._builder = builder
        self._lengths = lengths
        self._turn_tokens = turn_tokens
        self._messages: list[Message] = []
        self._first_prompt = 0
        self.ids: list[int] = []

    @property
    def max_tokens(self) -> int:
        """Most tokens that the next response may have."""
        return min(self._turn_tokens, self._room)

    @property
    def _room(self) -> int:
        room = self._lengths.response - (len(self.ids) - self._first_prompt)
        return room if self._lengths.total is None else min(room, self._lengths.total - len(self.ids))

    def open(self, messages: list[Message]) -> str | None:
        """Begin with the first prompt; return why it does not fit, None if it does."""
        self._messages = list(messages)
        self.ids = self._builder.first(messages)
        self._first_prompt = len(self.ids)
        if len(self.ids) > self._lengths.prompt:
            return f"the first prompt has {len(self.ids)} tokens, and at most {self._lengths.prompt} are allowed"
        if self._room < 1:
            return f"the first prompt has {len(self.ids)} tokens, which fill the model's {self._lengths.total}"
        return None

    def add_response(self, ids: Sequence[int]) -> None:
        """Append what the model sampled."""
        self.ids.extend(ids)

    def add_message(self, message: Message) -> bool:
        """Append a user message and the prefill; return whether they fit, and append nothing if they do not."""
        added = self._builder.following(self.ids, self._messages, message)
        if len(added) >= self._room:
            return False
        self._messages += [{"role": "assistant", "content": ""}, message]
        self.ids.extend(added)
        return True
