"""The exact bytes that each token stands for.

Decoding a response again at every step would cost the square of its length, and decoding token by token is
wrong: byte-level tokenizers cut characters in two, WordPiece puts spaces between words, SentencePiece writes
a space as `▁`. So a token is decoded once, between two neighbours, and its bytes are remembered.
"""

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

from tokenizers import Tokenizer

_NEIGHBOUR = "a"
"""A token that every decoder writes as itself."""
_BYTE_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Piece(NamedTuple):
    """What a token adds to the text before it."""

    separator: bytes
    """What the decoder puts between words; part of the text, but of no token."""
    text: bytes
    """The token's own bytes, maybe a part of a character only; empty for a special token."""


def _byte_alphabet() -> dict[str, int]:
    """The characters in which byte-level vocabularies write bytes (the convention of GPT-2).

    Printable Latin-1 characters stand for themselves; the other bytes are numbered from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTE_ALPHABET = _byte_alphabet()


class TokenPieces:
    """The bytes of every token of a vocabulary, looked up by id.

    The text is that of `decode(ids, skip_special_tokens=True)`, with one difference: a response continues
    its prompt, so its first token keeps the leading space that decoders strip from the beginning of a text.

    Args:
        tokenizer: The tokenizer, as the `tokenizers` library has it.
        special_ids: Tokens without text: those of the chat template, end of sequence, padding.

    Example:
        >>> from tokenizers import decoders, models
        >>> tokenizer = Tokenizer(models.BPE({"Ġright": 0, "ð": 1}, []))
        >>> tokenizer.decoder = decoders.ByteLevel()
        >>> pieces = TokenPieces(tokenizer, special_ids=())
        >>> pieces[0].text, pieces[1].text
        (b' right', b'\\xf0')
    """

    def __init__(self, tokenizer: Tokenizer, special_ids: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._decoder = tokenizer.decoder
        self._special_ids = frozenset(special_ids)
        self._separator = self._decode([_NEIGHBOUR, _NEIGHBOUR])[1:-1]
        self._own_bytes = self._find_own_bytes()
        self._known: dict[int, Piece] = {}

    def __getitem__(self, token_id: int) -> Piece:
        """The piece of a token.

        Args:
            token_id: An id of the vocabulary.

        Returns:
            The bytes the token adds to the text; none for an id without an entry in the vocabulary, as the padding of
            an embedding has them.

        Raises:
            ValueError: If the id is negative, or the tokenizer's decoder does not write this token by itself, so that
                its text cannot be told.
        """
        piece = self._known.get(token_id)
        if piece is None:
            piece = self._known[token_id] = self._piece(token_id)
        return piece

    def _piece(self, token_id: int) -> Piece:
        if token_id < 0:
            raise ValueError(f"token id {token_id} is negative; tokens of a response are numbered from 0")
        token = self._tokenizer.id_to_token(token_id)
        if token is None or token_id in self._special_ids:
            return Piece(b"", b"")
        decoded = self._decoded_between_neighbours(token)
        own_bytes = self._own_bytes(token)
        if own_bytes is not None:
            self._check_agreement(token_id, token, own_bytes, decoded)
            return Piece(b"", own_bytes)
        if decoded is None:
            raise ValueError(_unsupported(token_id, token, "runs it into its neighbours"))
        separator = self._separator if self._separator and decoded.startswith(self._separator) else ""
        return Piece(separator.encode(), decoded[len(separator) :].encode())

    def _find_own_bytes(self) -> Callable[[str], bytes | None]:
        """How this tokenizer writes tokens that are bytes, found out from what its decoder does to one."""
        if self._decode([_NEIGHBOUR, "\u0120", _NEIGHBOUR]) == "a a":
            return _byte_level_bytes
        if self._decode([_NEIGHBOUR, "<0x41>", _NEIGHBOUR]) == "aAa":
            return _byte_fallback_bytes
        return _no_bytes

    def _decode(self, tokens: list[str]) -> str:
        return " ".join(tokens) if self._decoder is None else self._decoder.decode(tokens)

    def _decoded_between_neighbours(self, token: str) -> str | None:
        """What the decoder writes for a token in the middle of a text; None if that cannot be told apart."""
        text = self._decode([_NEIGHBOUR, token, _NEIGHBOUR])
        after = self._separator + _NEIGHBOUR
        if not (text.startswith(_NEIGHBOUR) and text.endswith(after)):
            return None
        return text[len(_NEIGHBOUR) : len(text) - len(after)]

    def _check_agreement(self, token_id: int, token: str, own_bytes: bytes, decoded: str | None) -> None:
        """Raise ValueError unless the decoder reads the same bytes; it shows a cut character as U+FFFD."""
        if own_bytes.decode(errors="replace").strip("\ufffd") != (decoded or "").strip("\ufffd"):
            raise ValueError(_unsupported(token_id, token, f"writes {own_bytes!r} as {decoded!r}"))


def _unsupported(token_id: int, token: str, what: str) -> str:
    return f"the tokenizer's decoder {what} (token {token_id}, {token!r}); this kind of decoder is not supported"


def _byte_level_bytes(token: str) -> bytes | None:
    """Bytes of a token of a byte-level vocabulary; a token outside the alphabet is text as it stands."""
    if all(character in _BYTE_ALPHABET for character in token):
        return bytes(_BYTE_ALPHABET[character] for character in token)
    return token.encode()


def _byte_fallback_bytes(token: str) -> bytes | None:
    """Byte of a token such as `<0xE2>`; None for any other token."""
    match = _BYTE_FALLBACK.fullmatch(token)
    return bytes.fromhex(match[1]) if match else None


def _no_bytes(token: str) -> bytes | None:
    """No token of the vocabulary is a byte."""
    return None
