"""What ends a turn, for chat templates of several families and tokenizers with and without an end of sequence."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from verl_actfocus.generation.turn_ends import closing_token, template_turn_end, turn_ended, turn_ends

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>", "<end_of_turn>", "<|user|>", "[INST]"]
EACH = "{% for m in messages %}"
CHATML = EACH + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TEMPLATES = {
    "ChatML": (CHATML, "<|im_end|>"),
    "Llama 3": (EACH + "<|start|>{{ m.role }}\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}", "<|eot_id|>"),
    "Llama 2": (
        EACH + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }} </s>{% endif %}"
        "{% endfor %}",
        "</s>",
    ),
    "Gemma": (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + EACH
        + "<start>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}",
        "<end_of_turn>",
    ),
    "a system message is asked for": (
        "{% if messages[0].role != 'system' %}{{ raise_exception('no system message') }}{% endif %}" + CHATML,
        "<|im_end|>",
    ),
    "an empty thought before the answer": (
        EACH + "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endfor %}",
        "<|im_end|>",
    ),
    "the next speaker's token, which only that speaker writes": (
        EACH + "<|{{ m.role }}|>\n{{ m.content }}{% endfor %}",
        None,
    ),
    "plain text": (EACH + "{{ m.role }}: {{ m.content }}\n###\n{% endfor %}", None),
    "plain text before a token": (EACH + "{{ m.content }} (end)<|im_end|>{% endfor %}", None),
    "a refusal": ("{{ raise_exception('not this conversation') }}", None),
    "no template": (None, None),
}


def tokenizer_with(template: str | None, eos: str | None = None) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(("template", "end"), TEMPLATES.values(), ids=TEMPLATES)
def test_the_end_of_turn_is_what_the_template_writes_behind_a_response(template: str | None, end: str | None) -> None:
    tokenizer = tokenizer_with(template)
    expected = None if end is None else tokenizer.convert_tokens_to_ids(end)
    assert template_turn_end(tokenizer) == expected


def test_a_base_models_end_of_sequence_does_not_hide_the_templates_end_of_turn() -> None:
    tokenizer = tokenizer_with(CHATML, eos="<|endoftext|>")
    assert turn_ends(tokenizer, None) == set(tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"]))


@pytest.mark.parametrize("given", [300, [300, 301]])
def test_the_generation_configs_ends_count_with_the_others(given: int | list[int]) -> None:
    tokenizer = tokenizer_with(CHATML, eos="<|im_end|>")
    ends = turn_ends(tokenizer, GenerationConfig(eos_token_id=given))
    assert ends == {tokenizer.eos_token_id, *([given] if isinstance(given, int) else given)}


def test_a_tokenizer_without_eos_takes_the_end_from_the_template() -> None:
    tokenizer = tokenizer_with(CHATML)
    assert tokenizer.eos_token_id is None
    ends = turn_ends(tokenizer, GenerationConfig())
    assert ends == {tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert closing_token(tokenizer, ends) == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_a_model_whose_turns_nothing_ends_is_refused_with_what_to_set() -> None:
    with pytest.raises(
        ValueError, match=r"nothing ends a turn .*generation_config\.json.*eos_token in tokenizer_config"
    ):
        turn_ends(tokenizer_with(None), None)


def test_a_response_without_its_end_is_closed_as_the_template_closes_it() -> None:
    both = tokenizer_with(CHATML, eos="<|endoftext|>")
    assert closing_token(both, turn_ends(both, None)) == both.convert_tokens_to_ids("<|im_end|>")
    plain = tokenizer_with(TEMPLATES["plain text"][0], eos="<|endoftext|>")
    assert closing_token(plain, turn_ends(plain, None)) == plain.eos_token_id
    neither = tokenizer_with(None)
    assert closing_token(neither, turn_ends(neither, GenerationConfig(eos_token_id=[7, 5]))) == 5


@pytest.mark.parametrize(
    ("token_ids", "reason", "ended"),
    [
        ([4, 4, 9], "completed", True),
        ([4, 4, 8], "completed", True),  # another one of the ends
        ([4, 4, 4, 9], "completed", True),  # exactly the limit
        ([4, 4, 4, 9], "length", True),  # what some servers call it then
        ([4, 4, 4, 4], "completed", False),  # veRL's vLLM server, at the limit
        ([4, 4, 4, 4], "length", False),
        ([4, 4], "length", False),  # the model's context ended first
        ([4, 9, 4, 4], "stop", False),  # an end of turn that did not end it
        ([4, 4], "stop", True),  # the server keeps the token that it stopped at
        ([4, 4], None, True),
    ],
)
def test_a_response_has_ended_at_its_end_of_turn_and_is_cut_off_at_the_limit(
    token_ids: list[int], reason: str | None, ended: bool
) -> None:
    assert turn_ended(token_ids, frozenset({8, 9}), 4, reason) is ended
