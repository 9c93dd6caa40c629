"""The grammar of a response: `<think> … </think> <answer> Right || Down </answer>`, or other tags, and nothing else.

Strict on purpose. A response is either wholly well-formed or it is invalid and none of its actions run, so no
format reward is ever paid for half an answer. The grammar has no nesting: after `<think>` only `</think>`
is looked for, after `<answer>` only `</answer>`. An `<answer>` quoted inside the reasoning is therefore
still reasoning.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from verl_actfocus.envs.base import ACTION_SEPARATOR
from verl_actfocus.episodes.tags import STANDARD_TAGS, TagSettings


@dataclass(frozen=True)
class ParsedResponse:
    """What a response says.

    Attributes:
        valid: Whether the whole response follows the grammar.
        reasoning: Text of the reasoning, stripped; as far as it goes if the response breaks off there.
        actions: Texts of the actions in order, stripped; empty if the response is invalid.
        problem: What breaks the grammar, in words; `None` exactly if the response is valid.
    """

    valid: bool
    reasoning: str
    actions: list[str]
    problem: str | None


def parse_response(text: str, tags: TagSettings = STANDARD_TAGS) -> ParsedResponse:
    """Parse one response.

    Args:
        text: The decoded response without the prefill and without end-of-turn special tokens.
        tags: The tags; their prefill is parsed as if the model had written it.

    Returns:
        The parsed response. Whitespace before, between and after the two blocks is allowed.

    Example:
        >>> parse_response("The goal is below. </think><answer>Down || Down</answer>").actions
        ['Down', 'Down']
        >>> parse_response("Down</think><answer>Down").problem
        '<answer> is not closed'
    """
    opening, closing = tags.reasoning
    before, opened, response = (tags.prefill + text).partition(opening)
    if before.strip() or not opened:
        return _invalid("", f"the response does not begin with {opening}")
    reasoning, closed, rest = response.partition(closing)
    reasoning = reasoning.strip()
    if not closed:
        return _invalid(reasoning, f"{opening} is not closed")
    answer, problem = _answer(rest, tags)
    if problem is not None:
        return _invalid(reasoning, problem)
    actions = [action.strip() for action in answer.split(ACTION_SEPARATOR)]
    if actions == [""]:
        return _invalid(reasoning, "the answer is empty")
    if "" in actions:
        return _invalid(reasoning, f"an action before or after {ACTION_SEPARATOR!r} is empty")
    return ParsedResponse(valid=True, reasoning=reasoning, actions=actions, problem=None)


def write_response(answer: str, reasoning: str = "", *, gap: str = "", tags: TagSettings = STANDARD_TAGS) -> str:
    """Write a well-formed response, without the prefill.

    Args:
        answer: What stands in the action span, such as `"Right || Down"`.
        reasoning: What stands in the reasoning span.
        gap: White space between the two spans.
        tags: The tags.

    Raises:
        ValueError: no well-formed response continues the prefill of the tags.
    """
    before, after = tags.around_action
    return f"{tags.left_to_write()}{reasoning}{tags.reasoning[1]}{gap}{before}{answer}{after}"


@lru_cache(maxsize=2**14)
def can_be_written(action: str, tags: TagSettings = STANDARD_TAGS) -> bool:
    """Say whether a response can name an action: written down and read again, it is that action.

    An action that holds the separator or a tag is not, nor is an empty one.

    Example:
        >>> can_be_written("click[a | b]"), can_be_written("click[a || b]")
        (True, False)
    """
    return parse_response(write_response(action, tags=tags), tags).actions == [action.strip()]


def _answer(rest: str, tags: TagSettings) -> tuple[str, str | None]:
    """Return what stands in the action span of what follows the reasoning, and what is wrong with it."""
    opening, closing = tags.around_action
    if not opening:
        again = tags.reasoning[0]
        return rest, f"a second {again} after {tags.reasoning[1]}" if again in rest else None
    if not rest.strip():
        return "", f"no {opening} after {tags.reasoning[1]}"
    between, opened, rest = rest.partition(opening)
    if between.strip() or not opened:
        return "", f"text between {tags.reasoning[1]} and {opening}"
    answer, closed, after = rest.partition(closing)
    if not closed:
        return "", f"{opening} is not closed"
    return answer, f"text after {closing}" if after.strip() else None


def _invalid(reasoning: str, problem: str) -> ParsedResponse:
    return ParsedResponse(valid=False, reasoning=reasoning, actions=[], problem=problem)
