"""Responses of agent loops that do not tag are tagged afterwards, turn by turn."""

from __future__ import annotations

from importlib.resources import files

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoTokenizer

from verl_actfocus.episodes import TagSettings
from verl_actfocus.integration.response_tagger import ResponseTagger
from verl_actfocus.tagging import SpanTagger
from verl_actfocus.weighting import Span


def test_each_turn_of_an_untagged_response_is_tagged_on_its_own():
    tokenizer = AutoTokenizer.from_pretrained(str(files("verl_actfocus") / "models/frozenlake/tokenizer"))

    def encode(text):
        return tokenizer.encode(text, add_special_tokens=False)

    first, second = encode("Go.</think><answer>Right"), encode("So")
    environment = encode("<answer>Up</answer><think>")
    ids = torch.tensor(first + environment + second)
    mask = torch.tensor([1] * len(first) + [0] * len(environment) + [1] * len(second))
    prompt = torch.tensor(encode("Play.<think>"))
    spans = ResponseTagger(tokenizer, TagSettings()).tag(prompt, ids, mask)
    assert spans[len(first) - 1] == Span.ACTION
    assert (spans[len(first) : len(first) + len(environment)] == Span.NONE).all()
    # The answer that the first turn left open does not reach into the second, which begins behind its own prefill.
    assert (spans[-len(second) :] == Span.REASONING).all()


def test_a_turn_that_no_prefill_precedes_is_tagged_without_it():
    tokenizer = AutoTokenizer.from_pretrained(str(files("verl_actfocus") / "models/frozenlake/tokenizer"))

    def encode(text):
        return torch.tensor(tokenizer.encode(text, add_special_tokens=False))

    response = encode("So <answer>Right</answer>")
    spans = ResponseTagger(tokenizer, TagSettings()).tag(encode("Play."), response, torch.ones(len(response)))
    assert (spans == Span.ACTION).sum() >= 1
    assert not (spans == Span.REASONING).any()


@pytest.mark.parametrize("action", [("<answer>", "</answer>"), "rest"])
@pytest.mark.parametrize("words", [1, 40, 400])
def test_a_prefill_is_recognised_however_many_tokens_it_has(action, words):
    tokenizer = AutoTokenizer.from_pretrained(str(files("verl_actfocus") / "models/frozenlake/tokenizer"))
    tags = TagSettings(action=action, prefill="<think>" + " ich überlege √" * words)

    def encode(text):
        return tokenizer.encode(text, add_special_tokens=False)

    prompt, thought = encode("Play.\n" + tags.prefill), encode(" noch mehr")
    assert words == 1 or len(encode(tags.prefill)) > 32
    between, answer = encode("Turn 2\n" + tags.prefill + "\n"), encode("</think><answer>Right</answer>")
    ids = thought + between + thought + answer
    mask = [1] * len(thought) + [0] * len(between) + [1] * (len(thought) + len(answer))
    spans = ResponseTagger(tokenizer, tags).tag(torch.tensor(prompt), torch.tensor(ids), torch.tensor(mask))
    assert (spans[: len(thought)] == Span.REASONING).all()
    second = spans[len(thought) + len(between) :]
    assert (second[: len(thought)] == Span.REASONING).all() and (second == Span.ACTION).any()


def test_what_the_trajectory_log_shows_is_the_text_in_which_spans_are_found():
    tokenizer = AutoTokenizer.from_pretrained(str(files("verl_actfocus") / "models/frozenlake/tokenizer"))
    text = " Grüße √ 🎉.</think><answer>Right</answer>"
    ids = [*tokenizer.encode(text, add_special_tokens=False), len(tokenizer) + 3, tokenizer.eos_token_id]
    texts = ResponseTagger(tokenizer, TagSettings()).texts(torch.tensor(ids))
    assert len(texts) == len(ids) and "".join(texts) == text + "<|im_end|>"
    assert SpanTagger(tokenizer).read(ids)[0] == text


def test_a_call_that_is_quoted_while_thinking_stays_reasoning_and_the_call_itself_is_the_action():
    tokenizer = AutoTokenizer.from_pretrained(str(files("verl_actfocus") / "models/frozenlake/tokenizer"))
    quoted, call = '{"name": "open", "arguments": {"n": 1}}', '{"name": "open", "arguments": {"n": 2}}'
    thought = f"I could write <tool_call>{quoted}</tool_call>, but no."
    text = f"<think>{thought}</think>\n<tool_call>\n{call}\n</tool_call>"
    ids = tokenizer.encode(text, add_special_tokens=False)
    prompt = tokenizer.encode("Which box?", add_special_tokens=False)
    tagger = ResponseTagger(tokenizer, TagSettings(action=("<tool_call>", "</tool_call>")))
    spans = tagger.tag(torch.tensor(prompt), torch.tensor(ids), torch.ones(len(ids)))
    texts = tagger.texts(torch.tensor(ids))

    def of(wanted):
        return "".join(shown for shown, span in zip(texts, spans.tolist(), strict=True) if span == wanted)

    # This tokenizer may merge a bracket of a tag with what stands beside it.
    assert thought in of(Span.REASONING) and call not in of(Span.REASONING)
    assert call in of(Span.ACTION) and quoted not in of(Span.ACTION)


def tagged(tags: TagSettings, *parts: tuple[str, int]) -> str:
    """Prompt and parts, each with 1 where the model wrote it → the letter of every character's span."""
    tokenizer = AutoTokenizer.from_pretrained(str(files("verl_actfocus") / "models/frozenlake/tokenizer"))
    ids, mask = [], []
    for text, own in parts:
        new = tokenizer.encode(text, add_special_tokens=False)
        ids += new
        mask += [own] * len(new)
    tagger = ResponseTagger(tokenizer, tags)
    prompt = torch.tensor(tokenizer.encode("Play.", add_special_tokens=False))
    spans = tagger.tag(prompt, torch.tensor(ids), torch.tensor(mask))
    texts = tagger.texts(torch.tensor(ids))
    letters = {Span.NONE: ".", Span.REASONING: "r", Span.ACTION: "a"}
    return "".join(letters[Span(span)] * len(text) for span, text in zip(spans.tolist(), texts, strict=True))


def middle(letters: str, text: str, whole: str) -> str:
    """The letters in the middle of a part: at its ends this tokenizer may merge it with a bracket."""
    start = whole.index(text)
    return letters[start + 2 : start + len(text) - 2]


@pytest.mark.parametrize("action", [("<answer>", "</answer>"), "rest"])
def test_a_tool_that_answers_in_the_middle_of_the_reasoning_does_not_end_it(action: tuple[str, str] | str) -> None:
    parts = [("<think>I look it up:", 1), (" found Right there ", 0), ("so I go on to it.</think>", 1)]
    parts += [("<answer>Right now</answer>", 1)]
    whole = "".join(text for text, _ in parts)
    letters = tagged(TagSettings(action=action, prefill=""), *parts)
    assert set(middle(letters, "I look it up:", whole)) == {"r"}
    assert set(middle(letters, " found Right there ", whole)) == {"."}
    assert set(middle(letters, "so I go on to it.", whole)) == {"r"}
    assert set(middle(letters, "Right now", whole)) == {"a"}


def test_an_answer_behind_tags_that_the_loop_has_written_is_the_action() -> None:
    parts = [("<think>I have thought enough", 1), (".</think><answer>", 0), ("Right now</answer>", 1)]
    whole = "".join(text for text, _ in parts)
    letters = tagged(TagSettings(prefill=""), *parts)
    assert set(middle(letters, "I have thought enough", whole)) == {"r"}
    assert set(middle(letters, ".</think><answer>", whole)) == {"."}
    assert set(middle(letters, "Right now", whole)) == {"a"}


@pytest.mark.parametrize("between", ["<|im_end|>\n<|im_start|>user\nWell?<|im_end|>\n", "<|im_end|>"])
def test_a_turn_that_was_cut_off_while_thinking_does_not_reach_into_the_next(between: str) -> None:
    parts = [("<think>I go on and on", 1), (between, 0), ("Up or Down", 1)]
    letters = tagged(TagSettings(prefill=""), *parts)
    assert letters.endswith("." * len("Up or Down")) and "r" in letters


def test_a_turn_that_was_whole_is_not_gone_on_with() -> None:
    """As in loops that write what a search found between two turns, without any special token."""
    parts = [("<think>a plan</think><answer>Up Up</answer>", 1), (" found: ", 0), ("a last word", 1)]
    letters = tagged(TagSettings(prefill=""), *parts)
    assert letters.endswith("." * len("a last word")) and "a" in letters


def test_tokens_that_are_special_in_the_tokenizers_table_alone_end_a_turn_too() -> None:
    """As those of templates whose end of turn is not the end of the sequence."""
    tokenizer = AutoTokenizer.from_pretrained(str(files("verl_actfocus") / "models/frozenlake/tokenizer"))
    turns = ["<start_of_turn>", "<end_of_turn>"]
    tokenizer.backend_tokenizer.add_special_tokens([AddedToken(turn, special=True) for turn in turns])
    assert not {*turns} & {*tokenizer.all_special_tokens}

    def encode(text):
        return tokenizer.encode(text, add_special_tokens=False)

    parts = [encode("<think>I go on and on"), encode("<end_of_turn><start_of_turn>"), encode("Up or Down")]
    ids, mask = [*parts[0], *parts[1], *parts[2]], [1] * len(parts[0]) + [0] * len(parts[1]) + [1] * len(parts[2])
    spans = ResponseTagger(tokenizer, TagSettings(prefill="")).tag(
        torch.tensor(encode("Play.")), torch.tensor(ids), torch.tensor(mask)
    )
    assert (spans[-len(parts[2]) :] == Span.NONE).all() and (spans == Span.REASONING).any()
