"""The grammar of a response: ``<think> … </think> <answer> Right || Down </answer>`` and nothing else.

Strict on purpose. A response is either wholly well-formed or it is invalid and none of its actions run, so no
format reward is ever paid for half an answer. The grammar has no nesting: after ``<think>`` only ``</think>``
is looked for, after ``<answer>`` only ``</answer>``. An ``<answer>`` quoted inside the reasoning is therefore
still reasoning.
"""

from __future__ import annotations

from dataclasses import dataclass

from verl_actfocus.episodes.prompts import (
    ACTION_SEPARATOR,
    ANSWER_CLOSE,
    ANSWER_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
)


@dataclass(frozen=True)
class ParsedResponse:
    """What a response says.

    Attributes:
        valid: Whether the whole response follows the grammar.
        reasoning: Text inside ``<think>``, stripped; as far as it goes if the response breaks off there.
        actions: Texts of the actions in order, stripped; empty if the response is invalid.
        problem: What breaks the grammar, in words; ``None`` exactly if the response is valid.
    """

    valid: bool
    reasoning: str
    actions: list[str]
    problem: str | None


def parse_response(text: str, *, prefill: str = THINK_OPEN) -> ParsedResponse:
    """Parse one response.

    Args:
        text: The decoded response without the prefill and without end-of-turn special tokens (decode with
            ``skip_special_tokens=True``).
        prefill: Text that was put before the response for the model; it is parsed as if the model had written
            it.

    Returns:
        The parsed response. Whitespace before, between and after the two blocks is allowed.

    Example:
        >>> parse_response("The goal is below. </think><answer>Down || Down</answer>").actions
        ['Down', 'Down']
        >>> parse_response("Down</think><answer>Down").problem
        '<answer> is not closed'
    """
    response = (prefill + text).strip()
    if not response.startswith(THINK_OPEN):
        return _invalid("", f"the response does not begin with {THINK_OPEN}")
    reasoning, closed, rest = response.removeprefix(THINK_OPEN).partition(THINK_CLOSE)
    reasoning = reasoning.strip()
    if not closed:
        return _invalid(reasoning, f"{THINK_OPEN} is not closed")
    rest = rest.lstrip()
    if not rest:
        return _invalid(reasoning, f"no {ANSWER_OPEN} after {THINK_CLOSE}")
    if not rest.startswith(ANSWER_OPEN):
        return _invalid(reasoning, f"text between {THINK_CLOSE} and {ANSWER_OPEN}")
    answer, closed, after = rest.removeprefix(ANSWER_OPEN).partition(ANSWER_CLOSE)
    if not closed:
        return _invalid(reasoning, f"{ANSWER_OPEN} is not closed")
    if after:
        return _invalid(reasoning, f"text after {ANSWER_CLOSE}")
    actions = [action.strip() for action in answer.split(ACTION_SEPARATOR)]
    if actions == [""]:
        return _invalid(reasoning, "the answer is empty")
    if "" in actions:
        return _invalid(reasoning, f"an action before or after {ACTION_SEPARATOR!r} is empty")
    return ParsedResponse(valid=True, reasoning=reasoning, actions=actions, problem=None)


def _invalid(reasoning: str, problem: str) -> ParsedResponse:
    return ParsedResponse(valid=False, reasoning=reasoning, actions=[], problem=problem)
