"""Progress of an evaluation on the terminal."""

from __future__ import annotations

import sys
import time

from verl_actfocus.evaluation.runner import Attempt
from verl_actfocus.experiments.execution.progress import Display, duration

#: Share of the episodes between two lines of progress where the output is no terminal.
_NEWS = 0.1


class EvaluationProgress:
    """A line on the standard error: how far, how well so far, how much longer.

    Args:
        name: begins the line.
        episodes: that are played in all.
    """

    def __init__(self, name: str, episodes: int) -> None:
        self._episodes = episodes
        self._display = Display(name, sys.stderr)
        self._began: tuple[float, int] | None = None
        self._told = 0.0

    def show(self, attempt: Attempt) -> None:
        """Called after every episode."""
        now, played = time.monotonic(), len(attempt.finished) + len(attempt.failures)
        self._began = self._began or (now, played)
        news = played / self._episodes >= self._told + _NEWS
        if news:
            self._told = played / self._episodes
        self._display.show(self._line(attempt, now, played), news)

    def close(self, attempt: Attempt) -> None:
        """Write the last line."""
        began, _ = self._began or (time.monotonic(), 0)
        played = len(attempt.finished) + len(attempt.failures)
        self._display.close(f"{played}/{self._episodes} episodes | {duration(time.monotonic() - began)}")

    def _line(self, attempt: Attempt, now: float, played: int) -> str:
        began, before = self._began or (now, played)
        parts = [f"{played}/{self._episodes} episodes"]
        if attempt.finished:
            parts.append(f"success {sum(one.success for one in attempt.finished) / len(attempt.finished):.1%}")
        if attempt.failures:
            parts.append(f"{len(attempt.failures)} failed")
        if played > before:
            left = (now - began) / (played - before) * (self._episodes - played)
            parts.append(f"{duration(left)} left")
        return " | ".join(parts)
