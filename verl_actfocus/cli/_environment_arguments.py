"""Command-line arguments that several subcommands share: which environment, with which options."""

from __future__ import annotations

import argparse
import ast
from typing import Any

#: The environments that a command takes unless others are named: the paper's, which need no extra package.
DEFAULT_ENVIRONMENTS = ("sokoban", "frozenlake", "sudoku", "webshop")


def add_option_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--option KEY=VALUE`, which may be given several times."""
    parser.add_argument(
        "--option",
        type=parse_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="argument of the environment's class, such as success_rate=0.8 or size=(7,7); may be repeated",
    )


def parse_option(text: str) -> tuple[str, Any]:
    """Reads one option.

    Args:
        text: `KEY=VALUE`; the value is a Python literal, or else taken as a string.

    Returns:
        Key and value.

    Raises:
        argparse.ArgumentTypeError: There is no "=" or no key.

    Example:
        >>> parse_option("size=(7,7)")
        ('size', (7, 7))
    """
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE, such as size=5")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value  # a bare word, such as split=test


def positive(text: str) -> int:
    """Reads a positive integer.

    Raises:
        argparse.ArgumentTypeError: The text is something else.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)
