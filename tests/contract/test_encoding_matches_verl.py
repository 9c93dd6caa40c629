"""Prompts that are built without veRL, and those of the warm start, are veRL's own, token for token."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from transformers import PreTrainedTokenizerBase
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

from verl_actfocus import envs
from verl_actfocus.episodes import STANDARD_TAGS, Episode, TagSettings
from verl_actfocus.episodes.templates import TemplatePrompts, prompt_builder
from verl_actfocus.episodes.tokens import CHATML_MODEL_TYPES, ChatML, VerlPrompts
from verl_actfocus.episodes.tokens import conversation as encoded
from verl_actfocus.warmstart.demonstrations import demonstrate
from verl_actfocus.warmstart.tokenizer import build_tokenizer

#: Words that no demonstration holds, so that the responses go through the byte level too.
TEXTS = [" Grüße, ich warte.\n</think><answer> Up</answer>", " ?</think><answer>Up || Up</answer>", " x"]
TAGS = {
    "<think>": STANDARD_TAGS,
    "": TagSettings(prefill=""),
    "<reason> Step 1:": TagSettings(reasoning=("<reason>", "</reason>"), prefill="<reason> Step 1:"),
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    task = envs.miniature("frozenlake")
    env = task.make_env()
    return build_tokenizer([demonstrate(task, env, seed=0, index=i).messages for i in range(200)])


@pytest.fixture(scope="module")
def conversation() -> list[dict[str, str]]:
    """Three turns: system, user, assistant, user, assistant, user, assistant."""
    task = envs.miniature("frozenlake")
    for seed in range(100):  # a map on which moving up twice is harmless
        episode = Episode(task.make_env(), task.limits)
        messages = episode.reset(seed)
        for text in TEXTS:
            result = episode.respond(text) if not episode.done else None
            messages.append({"role": "assistant", "content": text})
            if result is not None and result.next_message is not None:
                messages.append(result.next_message)
        if episode.turn == len(TEXTS):
            return messages
    raise AssertionError("every map has a hole above the start")


def by_verl(
    tokenizer: PreTrainedTokenizerBase, family: str, prefill: str, messages: Sequence[dict[str, str]]
) -> list[int]:
    """The conversation by veRL's builder alone, a prefill put behind every generation prompt."""
    builder = create_continuous_token_builder(tokenizer, hf_model_type=family, allowed_append_roles=["user"])
    prefill_ids = tokenizer.encode(prefill, add_special_tokens=False)
    ids = builder.build_initial_tokens(list(messages[:2])) + prefill_ids
    for place in range(2, len(messages), 2):
        response = [*tokenizer.encode(messages[place]["content"], add_special_tokens=False), tokenizer.eos_token_id]
        ids = builder.merge_assistant_tokens(ids, response).token_ids
        so_far = list(messages[: place + 1])
        if place + 1 < len(messages):
            following = [*so_far, messages[place + 1]]
            ids = builder.merge_context_tokens(so_far, following, ids).token_ids + prefill_ids
    return ids


@pytest.mark.parametrize("prefill", TAGS)
@pytest.mark.parametrize("family", [*sorted(CHATML_MODEL_TYPES), "llama", "mistral"])
def test_a_three_turn_episode_has_the_tokens_that_verls_builder_gives_it(
    tokenizer: PreTrainedTokenizerBase, conversation: list[dict[str, str]], family: str, prefill: str
) -> None:
    prompts = prompt_builder(tokenizer, family, TAGS[prefill], tokenizer.eos_token_id)
    assert isinstance(prompts, ChatML if family in CHATML_MODEL_TYPES else TemplatePrompts)
    ids = prompts.first(conversation[:2])
    for place in range(2, len(conversation), 2):
        text = conversation[place]["content"]
        response = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        assert tokenizer.decode(response, skip_special_tokens=True) == text
        ids = ids + response
        if place + 1 < len(conversation):
            ids = ids + prompts.following(ids, conversation[:place], conversation[place + 1])
    # veRL's builder of other families leaves out the line break behind an end of turn, which is no prompt of this
    # template.
    assert ids == by_verl(tokenizer, "qwen2", prefill, conversation)


def test_the_warm_start_trains_on_these_tokens_and_on_the_responses_alone(
    tokenizer: PreTrainedTokenizerBase, conversation: list[dict[str, str]]
) -> None:
    ids, mask = encoded(ChatML(tokenizer, "<think>"), conversation)
    assert ids == by_verl(tokenizer, "qwen2", "<think>", conversation)
    trained = [token for token, chosen in zip(ids, mask, strict=True) if chosen]
    responses = [[*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in TEXTS]
    assert trained == [token for response in responses for token in response]


def test_after_another_end_than_the_templates_the_line_break_is_left_out_as_verl_does(
    tokenizer: PreTrainedTokenizerBase, conversation: list[dict[str, str]]
) -> None:
    system, user, _, message = conversation[:4]
    cut_off = tokenizer.encode(" and then", add_special_tokens=False)
    builder = create_continuous_token_builder(tokenizer, hf_model_type="qwen2")
    ours, theirs = ChatML(tokenizer, "<think>"), VerlPrompts(builder, tokenizer, "<think>", tokenizer.eos_token_id)
    for end in (cut_off, [*cut_off, tokenizer.pad_token_id], [*cut_off, tokenizer.eos_token_id]):
        ids = ours.first([system, user]) + end
        assert ours.following(ids, [system, user], message) == theirs.following(ids, [system, user], message)
