"""Where spans begin and end in the bytes of a response.

Outside any span an opening tag opens its span. Inside a span only its own closing tag ends it; everything
else is content, other tags included. Tags match exactly, byte for byte. A span that is still open at the end
counts, and the beginning of a tag at the very end is content like any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from verl_actfocus.weighting import Span

REST: Final = "rest"
"""In place of the action's tags: everything that is neither reasoning nor a tag is action."""


@dataclass(frozen=True)
class SpanGrammar:
    """The tags of a response format.

    Args:
        action: Opening and closing tag of the action span, or :data:`REST`.
        reasoning: Opening and closing tag of the reasoning span.

    Raises:
        ValueError: If a tag is empty, two tags are equal, or one opening tag begins with the other, so that
            the text could be read in two ways.

    Example:
        >>> SpanGrammar(action=("<answer>", "</answer>"), reasoning=("<think>", "</think>")).tags
        ('<think>', '</think>', '<answer>', '</answer>')
    """

    action: Sequence[str] | str
    reasoning: Sequence[str]

    def __post_init__(self) -> None:
        """Check that the tags can be told apart."""
        _check_pair("reasoning", self.reasoning)
        if isinstance(self.action, str):
            if self.action != REST:
                raise ValueError(
                    f"action must be an opening and a closing tag, or {REST!r} for all text that is not "
                    f"reasoning, got {self.action!r}"
                )
        else:
            _check_pair("action", self.action)
        if len(set(self.tags)) < len(self.tags):
            raise ValueError(f"all tags must differ, got {', '.join(map(repr, self.tags))}")
        openings = self.tags[::2]
        for shorter in openings:
            for longer in openings:
                if shorter != longer and longer.startswith(shorter):
                    raise ValueError(f"opening tag {longer!r} can never be read because {shorter!r} begins it")

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags: opening and closing by turns."""
        return (*self.reasoning, *(() if isinstance(self.action, str) else self.action))


def _check_pair(name: str, pair: Sequence[str]) -> None:
    """Raise ValueError unless ``pair`` is two non-empty strings."""
    is_pair = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
    if not is_pair or not all(isinstance(tag, str) and tag for tag in pair):
        raise ValueError(f"{name} must be a pair of non-empty strings, opening and closing tag, got {pair!r}")


class SpanScanner:
    """Reads text piece by piece and says of every byte which span it is content of.

    A byte is decided as soon as it cannot be part of a tag any more, that is at most the length of a tag
    later.

    Args:
        grammar: The tags.

    Example:
        >>> scanner = SpanScanner(SpanGrammar(action=("[", "]"), reasoning=("{", "}")))
        >>> [span.name for span in scanner.read(b"[a") + scanner.close()]
        ['NONE', 'ACTION']
    """

    def __init__(self, grammar: SpanGrammar) -> None:
        opening, closing = (tag.encode() for tag in grammar.reasoning)
        sought_outside = [(opening, Span.REASONING)]
        self._sought = {Span.NONE: sought_outside, Span.REASONING: [(closing, Span.NONE)]}
        self._content_outside = Span.ACTION if isinstance(grammar.action, str) else Span.NONE
        if not isinstance(grammar.action, str):
            opening, closing = (tag.encode() for tag in grammar.action)
            sought_outside.append((opening, Span.ACTION))
            self._sought[Span.ACTION] = [(closing, Span.NONE)]
        self._longest_tag = max(len(tag.encode()) for tag in grammar.tags)
        self._open = Span.NONE
        self._undecided = b""

    def read(self, data: bytes) -> list[Span]:
        """Read on.

        Args:
            data: The next bytes of the text, any number; they need not end where a character ends.

        Returns:
            The spans of the bytes that are decided now, in order, from the first that was not decided before.
        """
        self._undecided += data
        return self._decide(more_follows=True)

    def close(self) -> list[Span]:
        """End the text.

        Returns:
            The spans of the bytes that were not decided yet: the beginning of a tag is content.
        """
        return self._decide(more_follows=False)

    def _decide(self, more_follows: bool) -> list[Span]:
        """Decide as many of the undecided bytes as possible; all of them when no more text follows."""
        text = self._undecided
        decided: list[Span] = []
        while (position := len(decided)) < len(text):
            tag, entered = self._tag_at(text, position)
            if tag:
                decided += [Span.NONE] * len(tag)
                self._open = entered
            elif more_follows and self._may_become_tag(text, position):
                break
            else:
                decided.append(self._content())
        self._undecided = text[len(decided) :]
        return decided

    def _content(self) -> Span:
        return self._open if self._open != Span.NONE else self._content_outside

    def _tag_at(self, text: bytes, position: int) -> tuple[bytes, Span]:
        """The tag that stands at a position and the span it leads to; an empty tag when there is none."""
        for tag, entered in self._sought[self._open]:
            if text.startswith(tag, position):
                return tag, entered
        return b"", self._open

    def _may_become_tag(self, text: bytes, position: int) -> bool:
        """Whether what stands from a position to the end is the beginning of a tag."""
        if len(text) - position >= self._longest_tag:
            return False
        rest = text[position:]
        return any(tag.startswith(rest) for tag, _ in self._sought[self._open])
