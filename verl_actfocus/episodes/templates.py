"""A model's prompts by its chat template, checked against the template's own rendering of a whole conversation.

A prompt is built turn by turn, because what was sampled must stand in it unchanged. Whether that gives the text that
the template writes for the conversation is found out once, before the first episode: veRL's builder of the model's
family is taken if it does, otherwise `TemplatePrompts` if that does, and otherwise the model is refused.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from verl_actfocus.episodes.prompts import Message
from verl_actfocus.episodes.tags import TagSettings
from verl_actfocus.episodes.tokens import CHATML_MODEL_TYPES, ChatML, PromptBuilder, VerlPrompts, encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Stands for a response; no other message of the stand-in conversation holds it.
_RESPONSE = "response"
_SYSTEM: Message = {"role": "system", "content": "rules"}
_STATES: list[Message] = [{"role": "user", "content": f"state {turn}"} for turn in (1, 2, 3)]
#: Characters that are shown before and after the place where two texts part.
_BEFORE, _AFTER = 60, 40


class ChatTemplate:
    """A chat template with its arguments; where it has no place for a system message, the first user message gets it.

    Args:
        tokenizer: Tokenizer with the template.
        arguments: What the template is rendered with (`data.apply_chat_template_kwargs`).

    Attributes:
        merges_system: Whether the system message becomes part of the first user message.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> None:
        self._tokenizer, self._arguments = tokenizer, dict(arguments)
        self.merges_system = False
        try:
            self.merges_system = _SYSTEM["content"] not in self.text([_SYSTEM, _STATES[0]])
        except TemplateError:
            self.merges_system = True

    def text(self, messages: Sequence[Message], *, generation_prompt: bool = False, **more: Any) -> str:
        """Render a conversation that begins with a system and a user message.

        Raises:
            jinja2.TemplateError: The template refuses the conversation.
        """
        conversation = list(messages)
        if self.merges_system:
            system, user, *rest = conversation
            conversation = [{**user, "content": f"{system['content']}\n\n{user['content']}"}, *rest]
        rendered = self._tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=generation_prompt, **self._arguments, **more
        )
        return str(rendered)

    def prompt(self, messages: Sequence[Message], prefill: str) -> str:
        """Render a conversation up to the response, with a prefill that the template does not write itself."""
        text = self.text(messages, generation_prompt=True)
        return text if prefill and text.rstrip().endswith(prefill.strip()) else text + prefill


class TemplatePrompts:
    """Prompts of any family: what the template writes between two responses is cut out of a whole conversation.

    Args:
        tokenizer: The model's tokenizer.
        template: Its chat template.
        prefill: Text that every response continues.
        end: Token that closes a response.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, prefill: str, end: int) -> None:
        self._tokenizer, self._template, self._prefill, self._end = tokenizer, template, prefill, end

    def first(self, messages: Sequence[Message]) -> list[int]:
        """See `PromptBuilder`."""
        return encode(self._tokenizer, self._template.prompt(messages, self._prefill))

    def response(self, text: str) -> list[int]:
        """See `PromptBuilder`."""
        return [*encode(self._tokenizer, text), self._end]

    def following(self, ids: Sequence[int], messages: Sequence[Message], message: Message) -> list[int]:
        """See `PromptBuilder`; after another end of turn than the template's, the template's is appended."""
        conversation = [_SYSTEM, _STATES[0], {"role": "assistant", "content": _RESPONSE}, message]
        text = self._template.prompt(conversation, self._prefill)
        head, _, tail = text.partition(_RESPONSE)
        head += _RESPONSE
        end = str(self._tokenizer.convert_ids_to_tokens(int(ids[-1])))
        if tail.lstrip().startswith(end):
            head += tail[: tail.index(end) + len(end)]
        # A tokenizer may begin a text in another way than it continues one.
        before, together = encode(self._tokenizer, head), encode(self._tokenizer, text)
        if together[: len(before)] == before:
            return together[len(before) :]
        return encode(self._tokenizer, text[len(head) :])


def prompt_builder(
    tokenizer: PreTrainedTokenizerBase,
    model_type: str | None,
    tags: TagSettings,
    end: int,
    arguments: Mapping[str, Any] | None = None,
    processor: Any = None,
) -> PromptBuilder:
    """Return the builder of a model's prompts, which agrees with the model's chat template.

    Args:
        tokenizer: The model's tokenizer.
        model_type: `model_type` of the model's `config.json`, None if there is none.
        tags: What a response looks like; every response continues their prefill.
        end: Token that closes a response, see `verl_actfocus.generation.turn_ends.closing_token`.
        arguments: What the chat template is rendered with (`data.apply_chat_template_kwargs`).
        processor: The processor of a model that sees images, for veRL's builders.

    Raises:
        ValueError: The tokenizer has no chat template, or no prompt that is built turn by turn agrees with it; the
            message shows where they part.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path} has no chat template, so that nobody knows what a prompt looks "
            "like; evaluate an instruction-tuned model, or add a template"
        )
    arguments = dict(arguments or {})
    template = ChatTemplate(tokenizer, arguments)
    problems: list[str] = []
    # The builder of the model's family, then the template's own.
    for make in (
        lambda: _family_prompts(tokenizer, model_type, tags.prefill, end, arguments, processor),
        lambda: TemplatePrompts(tokenizer, template, tags.prefill, end),
    ):
        try:
            _check_date(template)
            prompts = make()
            problem = _disagreement(prompts, tokenizer, template, tags, end)
        except Exception as error:  # any: a template raises what its expressions raise; it is said below
            problem = str(error)
        if problem is None:
            return prompts
        problems.append(problem)
    raise ValueError(
        f"the chat template of {tokenizer.name_or_path or 'this model'} cannot be played with: {problems[-1]}; choose "
        "another model, or correct its chat template"
    )


def _family_prompts(
    tokenizer: PreTrainedTokenizerBase,
    model_type: str | None,
    prefill: str,
    end: int,
    arguments: dict[str, Any],
    processor: Any,
) -> PromptBuilder:
    """Return what veRL builds the prompts of a model's family with."""
    if model_type in CHATML_MODEL_TYPES:
        return ChatML(tokenizer, prefill, arguments)
    with _without_remarks():
        from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

        family = create_continuous_token_builder(
            tokenizer, hf_model_type=model_type, chat_template_kwargs=arguments, processor=processor
        )
    return VerlPrompts(family, tokenizer, prefill, end)


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Leave out what veRL says of engines that are not installed, and that it has no builder of its own for a family.

    Neither is a reason to do anything: what it builds is compared with the template.
    """
    threshold = logging.root.manager.disable
    logging.disable(max(threshold, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(threshold)


def _check_date(template: ChatTemplate) -> None:
    """Refuse a template whose prompts are others tomorrow, so that nobody could play them again."""
    messages = [_SYSTEM, _STATES[0]]
    if template.text(messages) != template.text(messages, strftime_now=lambda form: "another day"):
        raise ValueError(
            "it writes the present date, so that prompts change from one day to the next; give it a date "
            "with +data.apply_chat_template_kwargs.date_string='26 Jul 2024' (actfocus eval and play: --template "
            "date_string='26 Jul 2024') if it takes one, as Llama's do"
        )


def _disagreement(
    prompts: PromptBuilder,
    tokenizer: PreTrainedTokenizerBase,
    template: ChatTemplate,
    tags: TagSettings,
    end: int,
) -> str | None:
    """Say where the prompts of three turns part from the template's own text, None if they do not.

    White space around a response is the model's business, and what the generation prompt opens a response with may be
    left out by the template in later turns: nothing that the model has seen is taken back.
    """
    built = _built(prompts, tokenizer, end)
    opened = None
    for turn in range(3):
        text = template.prompt(_conversation(turn), tags.prefill)
        own = [_same_tokens(tokenizer, part) for part in text.split(_RESPONSE)]
        if len(own) != turn + 1:
            return f"it does not show every response as it is: {text!r}"
        closing = str(tokenizer.convert_ids_to_tokens(end))
        for place, (ours, theirs) in enumerate(zip(built, own, strict=False)):
            if place:
                ours, theirs = _after_response(ours, theirs, closing)
            if place < turn:
                ours, opened = _before_response(ours, theirs)
                theirs = theirs.rstrip()
            if ours != theirs:
                return _shown(ours, theirs)
    return _opened_twice(opened or "", tags)


def _conversation(turn: int) -> list[Message]:
    """The stand-in conversation up to the state of a turn, counted from 0."""
    messages = [_SYSTEM, _STATES[0]]
    for state in _STATES[1 : turn + 1]:
        messages += [{"role": "assistant", "content": _RESPONSE}, state]
    return messages


def _built(prompts: PromptBuilder, tokenizer: PreTrainedTokenizerBase, end: int) -> list[str]:
    """The texts before, between and behind two responses, built turn by turn; an end of turn begins the next text."""
    conversation = _conversation(2)
    ids = prompts.first(conversation[:2])
    parts = [_decode(tokenizer, ids)]
    for place in (2, 4):
        ids = [*ids, *encode(tokenizer, _RESPONSE), end]
        added = prompts.following(ids, conversation[:place], conversation[place + 1])
        parts.append(_decode(tokenizer, [end, *added]))
        ids += added
    return parts


def _after_response(ours: str, theirs: str, closing: str) -> tuple[str, str]:
    """Leave out the white space behind a response, and an end of turn that the template does not write."""
    ours, theirs = ours.lstrip(), theirs.lstrip()
    if not theirs.startswith(closing):
        ours = ours.removeprefix(closing).lstrip()
    return ours, theirs


def _before_response(ours: str, theirs: str) -> tuple[str, str]:
    """Split off what the generation prompt and the prefill open a response with."""
    kept = theirs.rstrip()
    return (kept, ours[len(kept) :]) if ours.startswith(kept) else (ours, "")


def _opened_twice(opened: str, tags: TagSettings) -> str | None:
    """Say so if a response is opened with tags that the prefill does not have."""
    tag = next((tag for tag in tags.tags if opened.count(tag) > tags.prefill.count(tag)), None)
    if tag is None:
        return None
    return (
        f"it opens a response with {opened!r}, and {tag!r} in there is not the prefill's ({tags.prefill!r}); set the "
        "prefill to what the template writes, take other tags (algorithm.actfocus.tags; --prefill, --reasoning-tags), "
        "or give the template arguments with which it does not write it, such as enable_thinking"
    )


def _shown(ours: str, theirs: str) -> str:
    """Both texts where they part."""
    places = (place for place, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other)
    start = next(places, min(len(ours), len(theirs)))
    shown = [repr(text[max(0, start - _BEFORE) : start + _AFTER]) for text in (ours, theirs)]
    return f"a prompt that is built turn by turn reads\n  {shown[0]}\nand the template's own\n  {shown[1]}\n"


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _same_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """A text as the tokenizer gives it back, which may have other spaces."""
    return _decode(tokenizer, encode(tokenizer, text))
