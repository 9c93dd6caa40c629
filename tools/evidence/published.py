"""What the tools that look at published results have in common."""

from __future__ import annotations

import csv
from pathlib import Path


def rows(path: Path, *columns: str) -> list[dict[str, str]]:
    """Read a file that `actfocus reproduce` has written.

    Args:
        path: the file.
        columns: what is needed of it.

    Raises:
        OSError: it cannot be read.
        ValueError: a column is missing; the message names file and columns.
    """
    table = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    missing = [name for name in columns if name not in (table.fieldnames or ())]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}: name a file that `actfocus reproduce` has written")
    return list(table)


def in_points(difference: float, low: float, high: float, p_value: float) -> str:
    """Write a difference in percentage points with its interval and p-value."""
    chance = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    return f"{difference:+.1f} [{low:+.1f}, {high:+.1f}], {chance}"
