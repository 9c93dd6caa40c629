"""The tags of a response: asked for by the prompt, read by the grammar, found by the tagger.

A response is `<think> … </think> <answer> … </answer>` unless a run says otherwise under `algorithm.actfocus.tags`.
Whoever plays an episode is handed one `TagSettings`, so prompt, grammar and tagger cannot mean different tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

REST: Final = "rest"
"""In place of the action's tags: everything that is neither reasoning nor a tag is action."""


@dataclass(frozen=True, kw_only=True)
class TagSettings:
    """Tags that delimit the spans, and what stands before a response in the prompt.

    Raises:
        ValueError: a tag is empty, two tags are equal, or one opening tag begins with the other, so that the text
            could be read in two ways; or the prefill is no text.

    Example:
        >>> TagSettings(action=("<act>", "</act>")).tags
        ('<think>', '</think>', '<act>', '</act>')
    """

    #: Opening and closing tag of the action span, or `REST`.
    action: tuple[str, str] | str = ("<answer>", "</answer>")
    #: Opening and closing tag of the reasoning span.
    reasoning: tuple[str, str] = ("<think>", "</think>")
    #: Text of the prompt that a response continues; empty for none.
    prefill: str = "<think>"

    def __post_init__(self) -> None:
        object.__setattr__(self, "reasoning", _pair("reasoning", self.reasoning))
        if not isinstance(self.action, str):
            object.__setattr__(self, "action", _pair("action", self.action))
        elif self.action != REST:
            raise ValueError(
                f"action must be an opening and a closing tag, or {REST!r} for all text that is not reasoning, "
                f"got {self.action!r}"
            )
        if not isinstance(self.prefill, str):
            raise ValueError(f"prefill must be a text, or '' for none, got {self.prefill!r}")
        if len(set(self.tags)) < len(self.tags):
            raise ValueError(f"all tags must differ, got {', '.join(map(repr, self.tags))}")
        openings = self.tags[::2]
        for shorter in openings:
            for longer in openings:
                if shorter != longer and longer.startswith(shorter):
                    raise ValueError(f"opening tag {longer!r} can never be read because {shorter!r} begins it")

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags: opening and closing by turns, those of the reasoning first."""
        return (*self.reasoning, *self.around_action) if self.action != REST else self.reasoning

    @property
    def around_action(self) -> tuple[str, str]:
        """What stands before and after the action in a response: its tags, or nothing for `REST`."""
        return ("", "") if isinstance(self.action, str) else self.action

    def left_to_write(self) -> str:
        """Return what a response has to write of the reasoning's opening tag, the prefill having begun it or not.

        Raises:
            ValueError: no valid response can continue the prefill.
        """
        begun, opening = self.prefill.lstrip(), self.reasoning[0]
        if not begun:
            return opening
        opening = opening.lstrip()
        if not (begun.startswith(opening) or opening.startswith(begun)):
            raise ValueError(
                f"no valid response can continue the prefill {self.prefill!r}, because a response begins with "
                f"{opening!r}; set the prefill to that, or to '' for none"
            )
        return opening[len(begun) :]


def _pair(name: str, pair: Any) -> tuple[str, str]:
    """Return a pair of tags as a tuple, so that settings read from YAML are equal to others and hashable."""
    is_pair = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
    if not is_pair or not all(isinstance(tag, str) and tag for tag in pair):
        raise ValueError(f"{name} must be a pair of non-empty strings, opening and closing tag, got {pair!r}")
    return pair[0], pair[1]


STANDARD_TAGS: Final = TagSettings()
"""The tags of the paper and of the tiny models that ship with the package."""
