"""The comparisons of a table of final success and area, as cells for people and as rows of a file."""

from __future__ import annotations

from collections.abc import Sequence

from verl_actfocus.experiments.report.comparisons import (
    NUMBERS,
    Comparison,
    comparisons,
    contrasted,
    pooled,
)
from verl_actfocus.experiments.report.figures import Line
from verl_actfocus.experiments.report.summary import in_percent, points
from verl_actfocus.experiments.tables import Table

#: Header and cells.
Grid = tuple[list[str], list[list[str]]]


def grid(table: Table, made: Sequence[Line]) -> Grid:
    """The table itself: both numbers of every line, and their differences to the baseline's."""
    base = table.weightings[table.baseline].label
    found = {(id(one.line), one.number): one for one in comparisons(table, made)}
    header = ["environment", "model", "weighting", *NUMBERS, *(f"{number} − {base}" for number in NUMBERS), "seeds"]
    rows = [
        [
            *line.place,
            table.weightings[line.cell.weighting].label,
            in_percent(line.first),
            in_percent(line.second),
            *(_difference(found.get((id(line), number))) for number in NUMBERS),
            str(len(line.runs)) if line.runs else "",
        ]
        for line in made
    ]
    return header, rows


def pooled_grid(table: Table, made: Sequence[Line]) -> Grid:
    """Every weighting over its rows; no cells where fewer than two rows are finished."""
    base = table.weightings[table.baseline].label
    header = ["algorithm", "weighting", "over", "number", "interquartile mean", f"that of {base}", f"P(above {base})"]
    rows = [
        [
            one.algorithm.upper(),
            table.weightings[one.weighting].label,
            ", ".join(one.rows),
            one.number,
            in_percent(one.mean),
            in_percent(one.baseline),
            in_percent(one.improvement),
        ]
        for one in pooled(table, made)
    ]
    return header, rows


def contrast_grid(table: Table, made: Sequence[Line]) -> Grid:
    """Every declared contrast of which both rows have runs."""
    base = table.weightings[table.baseline].label
    header = ["difference of", "in", "minus in", "number", "difference of differences", "conclusion"]
    rows = [
        [
            f"{table.weightings[one.weighting].label} − {base}",
            one.larger,
            one.than,
            one.number,
            points(one.estimate),
            _concluded(one.verdict, one.p_value),
        ]
        for one in contrasted(table, comparisons(table, made))
    ]
    return header, rows


def comparison_rows(table: Table, made: Sequence[Line]) -> list[dict[str, object]]:
    """Every comparison for machines."""
    rows: list[dict[str, object]] = []
    for one in comparisons(table, made):
        low, high = one.estimate.interval or (None, None)
        rows.append(
            {
                **one.line.key,
                "baseline": table.baseline,
                "number": one.number,
                "difference": one.estimate.value,
                "low": low,
                "high": high,
                "seeds": " ".join(map(str, one.differences)),
                "p_value": one.p_value,
                "p_value_corrected": one.corrected,
                "conclusion": one.verdict,
            }
        )
    return rows


def _difference(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    return f"{points(comparison.estimate)}: {_concluded(comparison.verdict, comparison.corrected)}"


def _concluded(verdict: str, p_value: float | None) -> str:
    return verdict if p_value is None else f"{verdict} (p = {p_value:.2g})"
