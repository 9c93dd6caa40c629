"""The comparisons of a table of final success and area, as cells for people and as rows of a file."""

from __future__ import annotations

from collections.abc import Sequence

from verl_actfocus.experiments.report.comparisons import (
    Comparison,
    comparisons,
    contrasted,
    pooled,
)
from verl_actfocus.experiments.report.figures import Line
from verl_actfocus.experiments.report.summary import in_percent, points
from verl_actfocus.experiments.tables.table import NUMBERS, Table

#: Header and cells.
Cells = tuple[list[str], list[list[str]]]


def grid(table: Table, made: Sequence[Line]) -> Cells:
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


def pooled_grid(table: Table, made: Sequence[Line]) -> Cells:
    """Every weighting over its rows; no cells where fewer than two rows are finished."""
    base = table.weightings[table.baseline].label
    header = ["algorithm", "weighting", "over", "number", "interquartile mean", f"that of {base}", f"P(above {base})"]
    header += ["conclusion"] if table.pooled else []
    rows = [
        [
            one.algorithm.upper(),
            table.weightings[one.weighting].label,
            ", ".join(one.rows) + ("" if one.outcome == "success" else f" ({one.outcome})"),
            one.number,
            in_percent(one.mean),
            in_percent(one.baseline),
            in_percent(one.improvement),
            *([one.conclusion if one.number == table.pooled else ""] if table.pooled else []),
        ]
        for one in pooled(table, made)
    ]
    return header, rows


def contrast_grid(table: Table, made: Sequence[Line]) -> Cells:
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
            _concluded(one.conclusion, one.p_value),
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
                "conclusion": one.conclusion,
            }
        )
    return rows


def pooled_rows(table: Table, made: Sequence[Line]) -> list[dict[str, object]]:
    """What is pooled, for machines."""
    rows: list[dict[str, object]] = []
    for one in pooled(table, made):
        row: dict[str, object] = {"algorithm": one.algorithm, "outcome": one.outcome, "weighting": one.weighting}
        row |= {"baseline": table.baseline, "rows": " ".join(one.rows), "number": one.number}
        for name, estimate in {
            "interquartile_mean": one.mean,
            "baseline_interquartile_mean": one.baseline,
            "probability_of_improvement": one.improvement,
        }.items():
            low, high = estimate.interval or (None, None)
            row |= {name: estimate.value, f"{name}_low": low, f"{name}_high": high}
        if table.pooled:
            row["conclusion"] = one.conclusion if one.number == table.pooled else ""
        rows.append(row)
    return rows


def contrast_rows(table: Table, made: Sequence[Line]) -> list[dict[str, object]]:
    """The contrasts, for machines."""
    rows: list[dict[str, object]] = []
    for one in contrasted(table, comparisons(table, made)):
        low, high = one.estimate.interval or (None, None)
        rows.append(
            {
                "weighting": one.weighting,
                "baseline": table.baseline,
                "larger": one.larger,
                "than": one.than,
                "number": one.number,
                "difference": one.estimate.value,
                "low": low,
                "high": high,
                "p_value": one.p_value,
                "conclusion": one.conclusion,
            }
        )
    return rows


def covers(table: Table, made: Sequence[Line]) -> list[str]:
    """What the intervals of the table are, in words."""
    shown = [part for line in made for part in (line.first, line.second) if part is not None]
    shown += [one.estimate for one in comparisons(table, made)]
    return list(dict.fromkeys(one.covers for one in shown))


def _difference(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    return f"{points(comparison.estimate)}: {_concluded(comparison.conclusion, comparison.corrected)}"


def _concluded(conclusion: str, p_value: float | None) -> str:
    return conclusion if p_value is None else f"{conclusion} (p = {p_value:.2g})"
