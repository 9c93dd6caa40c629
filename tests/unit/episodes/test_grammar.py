"""The response grammar: what is a whole answer, and that nothing less passes for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_actfocus.episodes import parse_response


@pytest.mark.parametrize(
    "text",
    [
        "go down</think><answer>Down || Right</answer>",
        "go down </think> <answer> Down || Right </answer>",
        "\n go down\n</think>\n\n<answer>\nDown||Right\n</answer>\n",
    ],
)
def test_whitespace_around_and_between_the_blocks_is_allowed(text: str) -> None:
    parsed = parse_response(text)
    assert parsed.valid
    assert parsed.problem is None
    assert parsed.reasoning == "go down"
    assert parsed.actions == ["Down", "Right"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("go down", "not closed"),
        ("go down</think>", "no <answer>"),
        ("go down</think><answer>Down", "not closed"),
        ("go down</think><answer>Down</answ", "not closed"),
        ("go down</think> so <answer>Down</answer>", "between"),
        ("go down</think><answer>Down</answer> done", "after"),
        ("go down</think><answer>Down</answer><answer>Up</answer>", "after"),
        ("go down</think><answer></answer>", "empty"),
        ("go down</think><answer> \n </answer>", "empty"),
        ("go down</think><answer>Down ||</answer>", "empty"),
        ("go down</think><answer>|| Down</answer>", "empty"),
        ("go down</think><answer>Down || || Up</answer>", "empty"),
        ("<answer>Down</answer>", "not closed"),
    ],
)
def test_anything_less_or_more_than_two_blocks_is_invalid_and_yields_no_action(text: str, word: str) -> None:
    parsed = parse_response(text)
    assert not parsed.valid
    assert parsed.actions == []
    assert parsed.problem is not None and word in parsed.problem


def test_an_answer_quoted_inside_the_reasoning_is_reasoning() -> None:
    parsed = parse_response("maybe <answer>Up</answer>? no.</think><answer>Down</answer>")
    assert parsed.valid
    assert parsed.reasoning == "maybe <answer>Up</answer>? no."
    assert parsed.actions == ["Down"]


def test_the_first_closing_think_tag_ends_the_reasoning() -> None:
    parsed = parse_response("a</think> b </think><answer>Down</answer>")
    assert not parsed.valid
    assert parsed.reasoning == "a"


def test_the_first_closing_answer_tag_ends_the_answer() -> None:
    assert parse_response("a</think><answer><think>Down</answer>").actions == ["<think>Down"]
    assert not parse_response("a</think><answer>Down</answer>Up</answer>").valid


def test_without_a_prefill_the_response_has_to_open_the_reasoning_itself() -> None:
    whole = "<think>a</think><answer>Down</answer>"
    assert parse_response(whole, prefill="").actions == ["Down"]
    assert not parse_response("a</think><answer>Down</answer>", prefill="").valid
    assert not parse_response("Sure! " + whole, prefill="").valid


def test_a_repeated_opening_tag_after_the_prefill_is_reasoning() -> None:
    assert parse_response("<think>a</think><answer>Down</answer>").reasoning == "<think>a"


PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "||", "Up", "Down", " ", "\n", "x"]),
    max_size=12,
)


@given(PIECES)
def test_a_response_is_valid_exactly_when_it_can_be_put_together_again_from_its_parts(
    pieces: list[str],
) -> None:
    text = "".join(pieces)
    parsed = parse_response(text)
    assert parsed.valid == (parsed.problem is None)
    if not parsed.valid:
        assert parsed.actions == []
        return
    again = f"<think>{parsed.reasoning}</think><answer>{'||'.join(parsed.actions)}</answer>"
    assert "".join(again.split()) == "".join(f"<think>{text}".split())
    assert "</think>" not in parsed.reasoning
    assert parsed.actions and all(action.strip() == action != "" for action in parsed.actions)
