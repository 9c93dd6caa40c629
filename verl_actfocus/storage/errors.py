"""Problems of an experiment that its user can do something about; the command line shows them as one sentence."""

from __future__ import annotations

from pathlib import Path


class ExperimentError(Exception):
    """Something about the request, the folder or the results is wrong; the message names it and the remedy."""


def first_line(error: Exception) -> str:
    """Return what an exception says, as far as its first line that says something; its name if none does."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class RunFailedError(ExperimentError):
    """A training run ended without its result.

    Args:
        reason: what happened, in a sentence.
        errors: the last error lines of the log, oldest first.
        log: the whole console output.
    """

    def __init__(self, reason: str, errors: list[str], log: Path) -> None:
        self.errors = errors
        self.log = log
        lines = "".join(f"\n  {line}" for line in errors)
        super().__init__(f"{reason}{lines}\nwhole log: {log}")
