"""The response grammar: what is a whole answer, and that nothing less passes for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_actfocus.episodes import TagSettings, parse_response, write_response


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


NO_PREFILL = TagSettings(prefill="")


def test_without_a_prefill_the_response_has_to_open_the_reasoning_itself() -> None:
    whole = "<think>a</think><answer>Down</answer>"
    assert parse_response(whole, NO_PREFILL).actions == ["Down"]
    assert not parse_response("a</think><answer>Down</answer>", NO_PREFILL).valid
    assert not parse_response("Sure! " + whole, NO_PREFILL).valid


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


#: Styles that others train with: XML, brackets, words and line ends, no tags around the action.
STYLES = [
    TagSettings(),
    NO_PREFILL,
    TagSettings(action=("<act>", "</act>"), reasoning=("<reason>", "</reason>"), prefill="<reason>"),
    TagSettings(action=("[", "]"), reasoning=("{", "}"), prefill="\n{ Let me see:"),
    TagSettings(action=("Action:", "\n"), reasoning=("Thought:", "//"), prefill="Thou"),
    TagSettings(action="rest"),
    TagSettings(action="rest", reasoning=("<r>", "</r>"), prefill=""),
]


@pytest.mark.parametrize("tags", STYLES, ids=str)
def test_what_is_written_with_some_tags_is_read_with_them(tags: TagSettings) -> None:
    parsed = parse_response(write_response("Up || Down", " I am here.", gap=" ", tags=tags), tags)
    assert parsed.problem is None and parsed.actions == ["Up", "Down"]
    assert parsed.reasoning.endswith("I am here.")
    other = TagSettings(action=("<<", ">>"), reasoning=("((", "))"), prefill="")
    assert not parse_response(write_response("Up", tags=other), tags).valid


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a</think>", "the answer is empty"),
        ("a", "<think> is not closed"),
        ("a</think>Up<think>b</think>Down", "a second <think> after </think>"),
        ("a</think>Up ||", "an action before or after '||' is empty"),
    ],
)
def test_where_the_rest_is_action_a_response_is_judged_as_strictly(text: str, problem: str) -> None:
    assert parse_response(text, TagSettings(action="rest")).problem == problem
