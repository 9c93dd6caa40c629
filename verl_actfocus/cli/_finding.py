"""What a check of `actfocus doctor` says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Result of a check."""

    #: What was checked.
    name: str
    #: What was found.
    state: str
    #: What to do; None if everything is well.
    remedy: str | None = None
