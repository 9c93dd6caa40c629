"""Prompts of many chat templates: built turn by turn they are what the template writes, or the model is refused."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from verl_actfocus.episodes import STANDARD_TAGS, Message, TagSettings
from verl_actfocus.episodes.templates import prompt_builder
from verl_actfocus.episodes.tokens import ChatML, PromptBuilder, VerlPrompts
from verl_actfocus.generation.turn_ends import closing_token, turn_ends

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|bos|>", "<|start|>", "<|stop|>", "<|eot_id|>", "</s>"]
SPECIAL += [
    "<start_of_turn>",
    "<end_of_turn>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
    "[INST]",
    "[/INST]",
]
EACH = "{% for m in messages %}"
ALTERNATION = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)
CHATML = (
    EACH + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Qwen3's: reasoning of earlier turns is left out, and without thinking an empty one opens the response.
QWEN3 = (
    EACH + "<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1].lstrip('\n') }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# As that of DeepSeek-R1 and QwQ: the generation prompt opens the reasoning.
OPENS = QWEN3.replace("assistant\n{% if enable", "assistant\n<think>\n{% if enable")
LLAMA3 = (
    "<|bos|>" + EACH + "<|start|>{{ m.role }}<|stop|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|stop|>\n\n{% endif %}"
)
DATED = (
    "{% if not date_string %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}{{ date_string }}\n" + LLAMA3
)
LLAMA2 = (
    "{% if messages[0].role == 'system' %}{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    + ALTERNATION
    + "{% if m.role == 'user' %}<|bos|>[INST] {{ (system if loop.index0 == 0 else '') + m.content }} [/INST]"
    "{% else %} {{ m.content }} </s>{% endif %}{% endfor %}"
)
MISTRAL = ALTERNATION + (
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
GEMMA = (
    "<|bos|>{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + ALTERNATION
    + "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI3 = (
    EACH + "<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
ZEPHYR = PHI3.replace("<|end|>", "</s>")
#: A template that says nothing of a system message does not show it.
SILENT = (
    "{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PLAIN = EACH + "{{ m.role }}: {{ m.content }}\n###\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
#: Template, type of the model, whether the system message has a place of its own.
FAMILIES = {
    "ChatML": (CHATML, "qwen2", True),
    "ChatML of another family": (CHATML, "smollm", True),
    "Llama 3": (LLAMA3, "llama", True),
    "Llama 2": (LLAMA2, "llama", True),
    "Mistral": (MISTRAL, "mistral", False),
    "Gemma": (GEMMA, "gemma2", False),
    "Phi 3": (PHI3, "phi3", True),
    "Zephyr": (ZEPHYR, "mistral", True),
    "no place for a system message": (SILENT, "phi3", False),
    "ChatML without system role": (
        CHATML.replace(
            "<|im_start|>{{", "{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}<|im_start|>{{"
        ),
        "qwen2",
        False,
    ),
}
RESPONSES = ["Grüße √.</think><answer>Up</answer>", "x</think>\n<answer>Up || Left</answer>"]
CONVERSATION: list[Message] = [
    {"role": "system", "content": "Walk to G.\nActions: Up, Left"},
    *({"role": "user", "content": f"Turn {turn}\nP_G\nActions left: {9 - turn}"} for turn in (1, 2, 3)),
]


def tokenizer_with(template: str, eos: str | None = "<|endoftext|>") -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos, chat_template=template)


def end_of(tokenizer: PreTrainedTokenizerFast) -> int:
    return closing_token(tokenizer, turn_ends(tokenizer, None))


def builder(
    template: str, model_type: str, tags: TagSettings = STANDARD_TAGS, **arguments: Any
) -> tuple[PromptBuilder, PreTrainedTokenizerFast]:
    tokenizer = tokenizer_with(template)
    return prompt_builder(tokenizer, model_type, tags, end_of(tokenizer), arguments), tokenizer


def played(prompts: PromptBuilder, tokenizer: PreTrainedTokenizerFast, end: int | None = None) -> str:
    """The text of three prompts and two responses."""
    system, *states = CONVERSATION
    ids, messages = prompts.first([system, states[0]]), [system, states[0]]
    for response, state in zip(RESPONSES, states[1:], strict=True):
        sampled = tokenizer.encode(response, add_special_tokens=False)
        ids = [*ids, *sampled, end_of(tokenizer) if end is None else end]
        ids += prompts.following(ids, messages, state)
        messages += [{"role": "assistant", "content": ""}, state]
    return str(tokenizer.decode(ids))


def by_template(tokenizer: PreTrainedTokenizerFast, prefill: str, merged: bool) -> str:
    """The same conversation as the template writes it, white space around responses aside."""
    system, *states = CONVERSATION
    if merged:
        states[0] = {"role": "user", "content": f"{system['content']}\n\n{states[0]['content']}"}
    messages = ([] if merged else [system]) + [states[0]]
    for response, state in zip(RESPONSES, states[1:], strict=True):
        messages += [{"role": "assistant", "content": prefill + response}, state]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)) + prefill
    for response in RESPONSES:
        text = text.replace(f" {prefill}{response} ", prefill + response).replace(
            f" {prefill}{response}", prefill + response
        )
    return text


@pytest.mark.parametrize("prefill", ["<think>", ""])
@pytest.mark.parametrize(("template", "model_type", "has_system"), FAMILIES.values(), ids=FAMILIES)
def test_a_conversation_that_is_built_turn_by_turn_reads_as_the_template_writes_it(
    template: str, model_type: str, has_system: bool, prefill: str
) -> None:
    prompts, tokenizer = builder(template, model_type, TagSettings(prefill=prefill))
    built = played(prompts, tokenizer)
    assert built == by_template(tokenizer, prefill, merged=not has_system)
    assert all(message["content"] in built for message in CONVERSATION)


@pytest.mark.parametrize(
    ("template", "model_type", "kind"), [(CHATML, "qwen2", ChatML), (LLAMA3, "llama", VerlPrompts)]
)
def test_prompts_are_verls_where_verls_agree_with_the_template(template: str, model_type: str, kind: type) -> None:
    assert isinstance(builder(template, model_type)[0], kind)


def test_what_verl_remarks_about_itself_reaches_no_terminal() -> None:
    code = "from tests.unit.episodes.test_templates import LLAMA3, builder; print(builder(LLAMA3, 'llama')[0])"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert "VerlPrompts" in done.stdout and done.stderr == ""
    builder(LLAMA3, "llama")
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3", "other"])
def test_a_reasoning_that_the_template_opens_is_not_opened_twice(model_type: str) -> None:
    prompts, tokenizer = builder(OPENS, model_type)
    text = played(prompts, tokenizer)
    assert text.count("<|im_start|>assistant\n<think>\n") == text.count("<think>") == 3
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n<think>\n")


def test_what_the_template_leaves_out_of_earlier_turns_stays_as_it_was_sampled() -> None:
    prompts, tokenizer = builder(QWEN3, "qwen3")
    assert isinstance(prompts, ChatML)
    assert all("<think>" + response in played(prompts, tokenizer) for response in RESPONSES)


def test_a_closed_reasoning_of_the_template_is_refused_with_its_tags_and_taken_with_others() -> None:
    with pytest.raises(ValueError, match=r"opens a response with .*<think>.*</think>.*enable_thinking"):
        builder(QWEN3, "qwen3", enable_thinking=False)
    with pytest.raises(ValueError, match=r"opens a response with .*is not the prefill's \(''\)"):
        builder(OPENS, "qwen3", TagSettings(prefill=""))
    own = TagSettings(reasoning=("<reason>", "</reason>"), prefill="<reason>")
    prompts, tokenizer = builder(QWEN3, "qwen3", own, enable_thinking=False)
    assert played(prompts, tokenizer).count("<|im_start|>assistant\n<think>\n\n</think>\n\n<reason>") == 3


@pytest.mark.parametrize("end", ["<|endoftext|>", "<end_of_turn>"])
def test_after_another_end_of_turn_the_templates_own_follows(end: str) -> None:
    prompts, tokenizer = builder(GEMMA, "gemma2")
    text = played(prompts, tokenizer, int(tokenizer.convert_tokens_to_ids(end)))
    closing = end if end == "<end_of_turn>" else end + "<end_of_turn>"
    assert text.count(f"</answer>{closing}\n<start_of_turn>user\nTurn") == 2


def test_a_template_without_an_end_of_turn_keeps_the_tokenizers() -> None:
    prompts, tokenizer = builder(PLAIN, "gpt2", TagSettings(prefill=""))
    assert played(prompts, tokenizer).count("</answer><|endoftext|>\n###\nuser: Turn") == 2


def test_a_template_that_writes_the_date_is_refused_until_it_is_given_one() -> None:
    with pytest.raises(ValueError, match=r"writes the present date.*apply_chat_template_kwargs\.date_string"):
        builder(DATED, "llama")
    prompts, tokenizer = builder(DATED, "llama", date_string="26 Jul 2024")
    assert played(prompts, tokenizer).startswith("26 Jul 2024\n")


REFUSED: Mapping[str, tuple[str, str]] = {
    "counts the turns": (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{{ messages | length }}{% endfor %}<|assistant|>",
        r"built turn by turn reads\n.*<\|end\|>2.*\n.*the template's own\n.*<\|end\|>4",
    ),
    "hides earlier responses": (
        "{% for m in messages if m.role != 'assistant' %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>",
        "does not show every response as it is",
    ),
    "takes one turn": (
        "{% if messages | length > 3 %}{{ raise_exception('one question at a time') }}{% endif %}" + CHATML,
        "one question at a time",
    ),
}


@pytest.mark.parametrize(("template", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_with_both_texts_where_they_part(template: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"(?s)cannot be played with: .*{said}.*correct its chat template"):
        builder(template, "llama")


def test_a_tokenizer_without_a_template_is_refused() -> None:
    tokenizer = tokenizer_with("")
    with pytest.raises(ValueError, match="has no chat template"):
        prompt_builder(tokenizer, "llama", STANDARD_TAGS, 3)
