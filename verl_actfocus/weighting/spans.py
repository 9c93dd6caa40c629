"""The part of a response that a token belongs to."""

from enum import IntEnum


class Span(IntEnum):
    """Span of one token; the values are what an integer tensor of spans holds.

    A response reads `<think> … </think> <answer> … </answer>` (He et al. 2026, §3). The text between the
    first pair of tags is reasoning, the text between the second is the action; the tags themselves,
    chat-template tokens and padding are neither.
    """

    NONE = 0
    REASONING = 1
    ACTION = 2
