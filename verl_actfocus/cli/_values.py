"""What a word of the command line has to be, checked before anything is done with it (types for argparse)."""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError
from pathlib import Path


def positive(text: str) -> int:
    """Read a positive integer.

    Raises:
        ArgumentTypeError: The text is something else.
    """
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def seed(text: str) -> int:
    """Read a seed: an integer of at least 0 that random generators take.

    Raises:
        ArgumentTypeError: The text is something else.
    """
    if not (text.isascii() and text.isdecimal()) or int(text) >= 2**32:
        raise ArgumentTypeError(f"{text!r} is not a seed: give an integer of at least 0 and below 2**32")
    return int(text)


def temperature(text: str) -> float:
    """Read a temperature: a finite number of at least 0.

    Raises:
        ArgumentTypeError: The text is something else.
    """
    value = _number(text)
    if not value >= 0:
        raise ArgumentTypeError(f"{text!r} is not a temperature: give 0 (the most likely token) or a positive number")
    return value


def learning_rate(text: str) -> float:
    """Read a learning rate: a finite number above 0.

    Raises:
        ArgumentTypeError: The text is something else.
    """
    value = _number(text)
    if not value > 0:
        raise ArgumentTypeError(f"{text!r} is not a learning rate: give a positive number such as 1e-4")
    return value


def _number(text: str) -> float:
    """Return a finite number; NaN, which is neither above nor below anything, for every other text."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def writable(text: str) -> Path:
    """Read a folder that is written to; it need not exist.

    Raises:
        ArgumentTypeError: The name is empty, no text, or no folder can be made or written there.
    """
    if not text.strip():
        raise ArgumentTypeError("the name of the folder is empty; name one, or leave the argument out")
    if not text.isprintable():  # control characters, and the bytes of a name that is no UTF-8
        raise ArgumentTypeError(f"{text!r} cannot be the name of a folder: it holds characters that are no text")
    path = Path(text)
    there = path.absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise ArgumentTypeError(f"{text!r}: {there} is no folder; choose another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ArgumentTypeError(f"{text!r}: {there} cannot be written to; choose another one or change its permissions")
    return path
