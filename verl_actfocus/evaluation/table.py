"""The figures of an evaluation for people: a table of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verl_actfocus.episodes.record import EpisodeRecord
    from verl_actfocus.evaluation.figures import Figure
    from verl_actfocus.evaluation.settings import EvaluationSettings


def heading(model: str, settings: EvaluationSettings) -> str:
    """Say in two lines what is evaluated on what."""
    options = ", ".join(f"{name}={value!r}" for name, value in settings.options.items())
    limits = settings.limits
    a_turn = "any number of" if limits.actions_per_turn is None else f"{limits.actions_per_turn}"
    return (
        f"{model} on {settings.environment}{f' ({options})' if options else ''}\n"
        f"{settings.episodes} episodes: {settings.tasks} tasks × {settings.samples}, temperature "
        f"{settings.temperature:g}, seed {settings.seed}; at most {limits.turns} turns, {a_turn} actions a turn, "
        f"{limits.actions} actions, {limits.response_tokens} tokens a response"
    )


def table(found: Sequence[Figure], reasons: Mapping[str, int]) -> str:
    """Return the figures with their intervals, and why the episodes ended.

    Args:
        found: the figures.
        reasons: stop reason → episodes.
    """
    rows = [("", "value", "95 % interval"), *((figure.label, *_cells(figure)) for figure in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}".rstrip() for row in rows]
    episodes = sum(reasons.values())
    ended = ", ".join(f"{reason} {count} ({count / episodes:.1%})" for reason, count in reasons.items())
    return "\n".join([*lines, f"episodes ended: {ended}"])


def failures(records: Sequence[EpisodeRecord]) -> str:
    """Count failed episodes by what failed, the most frequent first; a line each."""
    counts: dict[str, int] = {}
    for record in records:
        text = f"{record.stop_reason}: {record.failure}"
        counts[text] = counts.get(text, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return "\n".join(f"  {count} × {text}" for text, count in ordered)


def _cells(figure: Figure) -> tuple[str, str]:
    """Value and interval as text."""

    def number(value: float) -> str:
        return f"{100 * value:.1f} %" if figure.is_share else f"{value:.2f}"

    interval = figure.estimate.interval
    return number(figure.estimate.value), "–" if interval is None else f"[{number(interval[0])}, {number(interval[1])}]"
