"""From messages to tokens, turn by turn, exactly as a veRL rollout builds them.

Tokens are only ever appended: what the model sampled stays as it was sampled, and nothing is rendered twice. Equal to
veRL 0.9.1's ``QwenContinuousTokenBuilder`` (``verl/utils/tokenizer/continuous_token.py``) with the prefill of the
response put after the generation prompt; ``tests/contract/test_encoding_matches_verl.py`` holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from verl_actfocus.episodes.prompts import THINK_OPEN, Message

#: Ends a turn in ChatML.
TURN_END = "<|im_end|>"
# A message is rendered after a short stand-in conversation, for templates that put something before the first one.
_STAND_IN: list[Message] = [{"role": "system", "content": "rules"}, {"role": "user", "content": "state"}]


class TurnEncoder:
    """Encodes the pieces of a multi-turn conversation for a ChatML model.

    Args:
        tokenizer: Tokenizer with a ChatML template whose turns end in ``<|im_end|>`` and a line break.
        prefill: Text put before every response; the model continues it.

    Raises:
        ValueError: If the tokenizer has no ``<|im_end|>``, or a line break is not one token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, prefill: str = THINK_OPEN) -> None:
        self.tokenizer = tokenizer
        self.turn_end_id = _single_id(tokenizer, TURN_END)
        self._newline_id = _single_id(tokenizer, "\n")
        self._prefill_ids = _encode(tokenizer, prefill)
        self._stand_in_ids = self._render(_STAND_IN, generation_prompt=False)

    def initial(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of the first prompt: the messages, the generation prompt and the prefill."""
        return self._render(messages, generation_prompt=True) + self._prefill_ids

    def response(self, text: str) -> list[int]:
        """Return the ids of a whole response (without the prefill) and its end of turn."""
        return [*_encode(self.tokenizer, text), self.turn_end_id]

    def next_turn(self, message: Message) -> list[int]:
        """Return the ids between the end of a response and the next one: line break, message, generation prompt,
        prefill."""
        ids = self._render([*_STAND_IN, message], generation_prompt=True)
        return [self._newline_id, *ids[len(self._stand_in_ids) :], *self._prefill_ids]

    def conversation(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        """Encode a recorded conversation for supervised training.

        Args:
            messages: System, user, assistant, user, … , assistant; assistant texts without the prefill.

        Returns:
            The token ids, and a mask of the same length that is 1 on the tokens of the responses (their ends of turn
            included) and 0 elsewhere.
        """
        ids = self.initial(messages[:2])
        mask = [0] * len(ids)
        for message in messages[2:]:
            is_response = message["role"] == "assistant"
            piece = self.response(message["content"]) if is_response else self.next_turn(message)
            ids += piece
            mask += [int(is_response)] * len(piece)
        return ids, mask

    def _render(self, messages: Sequence[Message], *, generation_prompt: bool) -> list[int]:
        text = self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generation_prompt
        )
        return _encode(self.tokenizer, str(text))


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]


def _single_id(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    ids = _encode(tokenizer, text)
    if len(ids) != 1:
        raise ValueError(f"the tokenizer splits {text!r} into {len(ids)} tokens; a ChatML tokenizer keeps it as one")
    return ids[0]
