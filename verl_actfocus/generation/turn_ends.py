"""What ends a turn: one answer for the CPU server, vLLM, local evaluation and served models."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from jinja2 import TemplateError
from transformers import GenerationConfig, PreTrainedTokenizerBase

# Stands for a response where a template is asked how it closes one.
_RESPONSE = "response"


def turn_ends(tokenizer: PreTrainedTokenizerBase, generation_config: GenerationConfig | None) -> frozenset[int]:
    """Return the tokens that end a turn: those that end a sequence, and the one by which the template closes a turn.

    A base model often has `<|endoftext|>` as its end of sequence while its chat template closes turns with
    `<|im_end|>`. Trained on that template it ends its turns so, and would run on into the other speaker's.

    Args:
        tokenizer: the model's tokenizer, with its chat template if it has one.
        generation_config: the model's generation settings; None if it has none.

    Raises:
        ValueError: nothing ends a turn.
    """
    ends: set[int] = set()
    configured = None if generation_config is None else generation_config.eos_token_id
    for given in (configured, tokenizer.eos_token_id, template_turn_end(tokenizer)):
        if given is not None:
            ends.update([given] if isinstance(given, int) else given)
    if not ends:
        raise ValueError(
            f"nothing ends a turn of {tokenizer.name_or_path or 'this model'}: neither generation_config.json nor the "
            "tokenizer names an eos_token, and the chat template closes a response with no token of its own; set "
            "eos_token in tokenizer_config.json"
        )
    return frozenset(ends)


def template_turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the token that the chat template writes after a response.

    Returns:
        The first added token (`<|im_end|>`, `<|eot_id|>`, `</s>`, …) behind it, whitespace aside; None if there
        is no template, it writes other text there, or it refuses a conversation of one question and one response,
        with a system message and without one.
    """
    if not tokenizer.chat_template:
        return None
    text = _conversation_text(tokenizer)
    _, found, tail = text.rpartition(_RESPONSE)
    if not found:
        return None
    added = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    for token in tokenizer.encode(tail, add_special_tokens=False):
        if token in added:
            return int(token)
        if str(tokenizer.decode([token])).strip():
            return None
    return None


def _conversation_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """A conversation of one response in the template's words; empty if it refuses every one that is tried."""
    conversation = [{"role": "user", "content": "question"}, {"role": "assistant", "content": _RESPONSE}]
    # Some templates refuse a system message, others a conversation without one.
    for messages in (conversation, [{"role": "system", "content": "rules"}, *conversation]):
        try:
            return str(tokenizer.apply_chat_template(messages, tokenize=False))
        except TemplateError:
            continue
    return ""


def closing_token(tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> int:
    """Return the token to put after a response of which only the text is known: the template's, else the tokenizer's.

    Args:
        tokenizer: the model's tokenizer.
        ends: what `turn_ends` returns for it.
    """
    for token in (template_turn_end(tokenizer), tokenizer.eos_token_id):
        if isinstance(token, int):
            return token
    return min(ends)


def turn_ended(token_ids: Sequence[int], ends: Collection[int], max_tokens: int, reason: str | None) -> bool:
    """Say whether a response ended by itself; one that did not was cut off at the length limit.

    An end of turn as the last of exactly `max_tokens` tokens is an end. veRL's vLLM server calls a response that
    reached the limit `completed` too, so the number of tokens decides where no end of turn stands.

    Args:
        token_ids: what was sampled, the end of turn included if the server returns it.
        ends: what `turn_ends` returns for the model.
        max_tokens: most tokens that were asked for.
        reason: why generation stopped, as the server says: `length` is the limit, anything else says nothing.
    """
    if token_ids and token_ids[-1] in ends:
        return True
    return reason != "length" and len(token_ids) < max_tokens
