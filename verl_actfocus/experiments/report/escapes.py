"""Text of the user's own, such as names and settings, in the formats of a report: it stays text, whatever it holds.

HTML is escaped by jinja2, the cells of LaTeX tables by tabulate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

#: What spreadsheets take for the beginning of a formula (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Verbatim(str):
    """Text that is Markdown already."""


def one_line(text: str) -> str:
    """Write a text in one line.

    Example:
        >>> one_line("a\\nb")
        'a b'
    """
    return " ".join(text.splitlines())


def markdown(value: object) -> object:
    """Escape a text for Markdown, table cells included; anything but text, and `Verbatim`, is returned as it is.

    Example:
        >>> markdown("a|b <i> [x](y)")
        'a\\\\|b &lt;i&gt; [x]\\\\(y)'
    """
    if not isinstance(value, str) or isinstance(value, Verbatim):
        return value
    text = escape(one_line(value), quote=False).replace("\\", "\\\\")
    return text.replace("|", "\\|").replace("](", "]\\(").replace("`", "\\`")


def fenced(commands: Iterable[str]) -> Verbatim:
    """Write shell commands as a Markdown block, whose fence is longer than any that they hold.

    Example:
        >>> fenced(["ls"])
        '```sh\\nls\\n```'
    """
    text = "\n".join(commands)
    fence = "`" * max(3, *(1 + len(run) for run in re.findall("`+", text)), 3)
    return Verbatim(f"{fence}sh\n{text}\n{fence}")


def literal(text: str) -> str:
    """Write a text for matplotlib, which otherwise takes what stands between two dollar signs for a formula.

    Example:
        >>> literal("cost $5, $6")
        'cost \\\\$5, \\\\$6'
    """
    return text.replace("$", r"\$")


def csv_cell(value: object) -> object:
    """Write a cell that no spreadsheet takes for a formula; numbers are returned as they are.

    Example:
        >>> csv_cell("=1+1"), csv_cell(-1.5)
        ("'=1+1", -1.5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
