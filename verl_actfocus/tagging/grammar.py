"""Where spans begin and end in the bytes of a response.

Outside any span an opening tag opens its span. Inside a span only its own closing tag ends it; everything
else is content, other tags included. Tags match exactly, byte for byte. A span that is still open at the end
counts, and the beginning of a tag at the very end is content like any other.
"""

import re

from verl_actfocus.episodes.tags import REST, TagSettings
from verl_actfocus.weighting import Span


class SpanGrammar:
    """Says of every byte of a text which span it is content of.

    Args:
        tags: The tags of a response.

    Example:
        >>> grammar = SpanGrammar(TagSettings(action=("[", "]"), reasoning=("{", "}"), prefill=""))
        >>> [span.name for span in grammar.spans(b"[a")]
        ['NONE', 'ACTION']
    """

    def __init__(self, tags: TagSettings) -> None:
        self._outside = Span.ACTION if tags.action == REST else Span.NONE
        pairs = {Span.REASONING: tags.reasoning}
        if not isinstance(tags.action, str):
            pairs[Span.ACTION] = tags.action
        self._entered = {opening.encode(): span for span, (opening, _) in pairs.items()}
        self._opening = re.compile(b"|".join(map(re.escape, self._entered)))
        self._closing = {span: re.compile(re.escape(closing.encode())) for span, (_, closing) in pairs.items()}

    def spans(self, text: bytes) -> list[Span]:
        """Find the spans of a text.

        Args:
            text: All bytes of it; they need not be whole characters.

        Returns:
            One span per byte; tags are `NONE`.
        """
        found: list[Span] = []
        inside: Span | None = None
        while len(found) < len(text):
            sought = self._opening if inside is None else self._closing[inside]
            content = self._outside if inside is None else inside
            tag = sought.search(text, len(found))
            if tag is None:
                return found + [content] * (len(text) - len(found))
            found += [content] * (tag.start() - len(found)) + [Span.NONE] * len(tag[0])
            inside = self._entered[tag[0]] if inside is None else None
        return found
