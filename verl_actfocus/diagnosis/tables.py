"""A diagnosis as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from verl_actfocus.diagnosis.correlation import PARTS, SIGNALS, Correlation
from verl_actfocus.diagnosis.variance import ACTION, ACTION_AND_AFTER, AFTER, REASONING, Decided, Share

#: Terms of the variance, as the columns of a table.
TERMS = {
    REASONING: "reasoning",
    ACTION: "action, given the reasoning",
    AFTER: "after the action",
    ACTION_AND_AFTER: "action and after",
}


def correlation_table(found: Sequence[Correlation]) -> str:
    """Return ρ of every signal over every part, and below the table why numbers are missing."""
    by_place = {(one.signal, one.part): one for one in found}
    lines = header("Spearman's ρ with the spread of rewards", *(f"{part} tokens" for part in PARTS))
    for signal, label in SIGNALS.items():
        lines.append(row(label, *(_correlation(by_place[signal, part]) for part in PARTS)))
    problems: dict[str, dict[str, list[str]]] = {}
    for one in found:
        if one.problem is not None:
            problems.setdefault(one.problem, {}).setdefault(SIGNALS[one.signal], []).append(one.part)
    notes = [f"- {_places(places)}: {problem}." for problem, places in problems.items()]
    return "\n".join([*lines, "", *notes] if notes else lines)


def shares_table(shares: Mapping[str, float | None]) -> str:
    """Return token shares and tokens per trajectory, the columns of He et al. 2026, Table 1."""
    percents = [_percent(shares[f"{part}_share"]) for part in ("reasoning", "action", "none")]
    tokens = shares["tokens_per_trajectory"]
    values = row("" if tokens is None else f"{tokens:.1f}", *percents)
    return "\n".join([*header("tokens per trajectory", "reasoning", "action", "tags and ends of turn"), values])


def steps_table(steps: Sequence[tuple[str, Sequence[Correlation]]], signal: str) -> str:
    """Return ρ of one signal over training.

    Args:
        steps: name of the step or steps, and their correlations.
        signal: name in `SIGNALS`.
    """
    lines = header("training step", "groups", *(f"{part} tokens" for part in PARTS))
    problems: dict[str, dict[str, list[str]]] = {}
    for name, found in steps:
        by_part = {one.part: one for one in found if one.signal == signal}
        groups = max(one.groups for one in by_part.values())
        lines.append(row(name, str(groups), *(_correlation(by_part[part]) for part in PARTS)))
        for part in PARTS:
            if (problem := by_part[part].problem) is not None:
                problems.setdefault(problem, {}).setdefault(part, []).append(name)
    notes = [f"- {_parts_and_steps(places)}: {problem}." for problem, places in problems.items()]
    return "\n".join([*lines, "", *notes] if notes else lines)


def decisions_table(found: Sequence[tuple[str, str, Decided]]) -> str:
    """Return where returns are decided.

    Args:
        found: name of the turn, name of the outcome, and where it is decided; all with the same terms.
    """
    terms = list(found[0][2].shares)
    ratio = ["reasoning / (reasoning + action)"] if ACTION in terms else []
    lines = header("turn", "outcome", "states", "mean", "variance within a state", *(TERMS[t] for t in terms), *ratio)
    notes = []
    for turn, outcome, one in found:
        shares = [one.shares[term] for term in terms] + ([] if one.ratio is None else [one.ratio])
        cells = [turn, outcome, str(one.states), f"{one.mean:.3f}", f"{one.variance:.3f}"]
        lines.append(row(*cells, *map(share_cell, shares)))
        problems = dict.fromkeys(share.problem for share in shares if share.problem is not None)
        notes += [f"- turn {turn}, {outcome}: {problem}." for problem in problems]
    return "\n".join([*lines, "", *notes] if notes else lines)


def _places(places: Mapping[str, Sequence[str]]) -> str:
    """Name signals, with the parts if they are not all."""
    named = []
    for label, parts in places.items():
        named.append(label if len(parts) == len(PARTS) else f"{label} over {' and '.join(parts)} tokens")
    return ", ".join(named)


def _parts_and_steps(places: Mapping[str, Sequence[str]]) -> str:
    """Name parts with their steps; parts of the same steps together."""
    parts: dict[tuple[str, ...], list[str]] = {}
    for part, steps in places.items():
        parts.setdefault(tuple(steps), []).append(part)
    return "; ".join(f"{', '.join(names)} tokens, step {', '.join(steps)}" for steps, names in parts.items())


def _correlation(one: Correlation) -> str:
    if one.rho is None:
        return "not defined" if one.groups else "–"
    p_value = "p < 0.0001" if one.p_value is not None and one.p_value < 1e-4 else f"p = {one.p_value:.4f}"
    return f"{_number(one.rho)}{_interval(one.interval)}, {p_value}"


def share_cell(one: Share) -> str:
    """Return a value with its interval."""
    return "not defined" if one.value is None else f"{_number(one.value)}{_interval(one.interval)}"


def _interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f" [{_number(ends[0])}, {_number(ends[1])}]"


def _number(value: float) -> str:
    """Two decimal places, with a minus sign that is one, and none before a zero."""
    return f"{value:.2f}".replace("-", "−") if round(value, 2) else "0.00"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def header(*names: str) -> list[str]:
    """Return the first two lines of a table."""
    return [row(*names), row(*("---" for _ in names))]


def row(*cells: str) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |"
