"""Which span of a response each generated token belongs to.

The spans of He et al. 2026 are defined on text, the weights on tokens, and a tokenizer cuts text where it
likes: in the middle of a tag, or of a character. Three steps, one file each:

`pieces`
    The exact bytes that each token of a vocabulary stands for.
`grammar`
    Where spans begin and end, byte by byte.
`tagger`
    The two put together: `SpanTagger`, for whole responses.
"""

from verl_actfocus.tagging.grammar import SpanGrammar
from verl_actfocus.tagging.pieces import Piece, TokenPieces
from verl_actfocus.tagging.tagger import SpanTagger

__all__ = ["Piece", "SpanGrammar", "SpanTagger", "TokenPieces"]
