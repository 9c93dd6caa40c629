"""Writes a table: Markdown, CSV and LaTeX, the evaluations of every run and what compares them step by step."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from verl_actfocus.experiments.report.commands import reproduce_command
from verl_actfocus.experiments.report.comparison_tables import (
    comparison_rows,
    contrast_grid,
    contrast_rows,
    covers,
    grid,
    pooled_grid,
    pooled_rows,
)
from verl_actfocus.experiments.report.comparisons import LEVEL
from verl_actfocus.experiments.report.curves import picture, step_differences
from verl_actfocus.experiments.report.escapes import csv_cell, markdown, one_line
from verl_actfocus.experiments.report.figures import Line, lines
from verl_actfocus.experiments.report.provenance import made_with
from verl_actfocus.experiments.report.report import render
from verl_actfocus.experiments.report.robustness import intervals, missing, robustness_grid, robustness_rows
from verl_actfocus.experiments.report.summary import in_numbers, in_percent, points
from verl_actfocus.experiments.results.run_result import RunResult
from verl_actfocus.experiments.results.statistics import Estimate
from verl_actfocus.experiments.runs.choice import slug
from verl_actfocus.experiments.tables.grid import Request, cells, waits
from verl_actfocus.experiments.tables.table import Quantity, Table
from verl_actfocus.storage.disk import write_whole

#: What the CSV files of a table have behind its name.
KINDS = ("", "-runs", "-steps", "-comparisons", "-pooled", "-contrasts", "-robustness")
#: Quantity of a table → names of its two numbers.
NUMBER_NAMES = {
    Quantity.success: ("final", "peak"),
    Quantity.area: ("final", "area"),
    Quantity.action_tokens: ("tokens per trajectory", "share of action tokens"),
}


def write_table(
    request: Request, finished: Mapping[Path, RunResult], folder: Path, modules: Sequence[str] = ()
) -> list[Path]:
    """Write a table from the runs that have finished; what has not stays blank.

    Args:
        request: the table, its scale and the runs.
        finished: folder → run, of those that are finished.
        folder: where the files go. Of every table `<table>-<scale>.md`, `.tex`, `.csv` (a row for each number)
            and `-runs.csv` (every evaluation of every run); of a table of success `-steps.csv`, too (the difference
            to the baseline at every evaluation), and `.png` once a run has finished (the learning curves).
            Of a table of final success and area `-comparisons.csv`, `-pooled.csv` and `-contrasts.csv` besides; of one
            that declares evaluations `-robustness.csv`. A file that would hold no number is not written.
        modules: those of the user's that the runs train with, finished or not.

    Returns:
        The files written.

    Raises:
        ExperimentError: the files of a run contradict each other.
    """
    made = lines(request.table, cells(request), finished)
    command = reproduce_command(request, modules)
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{request.table.name}-{slug(request.scale_name)}"
    contents: dict[str, bytes] = {}
    if request.table.quantity.of_success and any(line.runs for line in made):
        contents[f"{stem}.png"] = picture(request.table, made)
    header, body = _readable(request.table, made)
    contents[f"{stem}.md"] = _markdown(request, made, header, body, command, f"{stem}.png" in contents).encode()
    contents[f"{stem}.tex"] = _latex(request, header, body, command).encode()
    numbers = {"": _numbers(request.table, made), "-runs": _evaluations(made)}
    if request.table.quantity.of_success:
        numbers["-steps"] = step_differences(request.table, made)
    if request.table.quantity is Quantity.area:
        numbers["-comparisons"] = comparison_rows(request.table, made)
        numbers["-pooled"] = pooled_rows(request.table, made)
        numbers["-contrasts"] = contrast_rows(request.table, made)
    if request.table.evaluations:
        numbers["-robustness"] = robustness_rows(request.table, made)
    contents |= {f"{stem}{kind}.csv": _csv(rows).encode() for kind, rows in numbers.items() if rows}
    for name in {f"{stem}.png", *(f"{stem}{kind}.csv" for kind in KINDS)} - contents.keys():
        # An earlier table's would contradict this one.
        (folder / name).unlink(missing_ok=True)
    for name, content in contents.items():
        write_whole(folder / name, content)
    return [folder / name for name in contents]


def _readable(table: Table, made: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Header and cells for people."""
    base = table.weightings[table.baseline].label
    if table.quantity is Quantity.action_tokens:
        header = ["environment", "model", "paper: tokens, action share", "tokens", "action share (%)", "seeds"]
        rows = [
            [
                *line.place,
                _paper(line, "{:.0f}, {:.1f} %"),
                in_numbers(line.first),
                in_percent(line.second),
                _seeds(line),
            ]
            for line in made
        ]
        return header, rows
    if table.quantity is Quantity.area:
        return grid(table, made)
    papers = any(row.paper for row in table.rows)
    header = [
        *("environment", "model", "weighting"),
        *(["paper: final (peak)"] if papers else []),
        *("final", "peak", f"final − {base}", "seeds"),
    ]
    rows = [
        [
            *line.place,
            table.weightings[line.cell.weighting].label,
            *([_paper(line, "{:.1f} ({:.1f})")] if papers else []),
            in_percent(line.first),
            in_percent(line.second),
            _difference(line),
            _seeds(line),
        ]
        for line in made
    ]
    return header, rows


def _paper(line: Line, form: str) -> str:
    """The paper's numbers; with the size where they are not for the size of the line."""
    parts = []
    for size, pair in line.paper.items():
        numbers = form.format(*(_NotGiven() if value is None else value for value in pair))
        parts.append(numbers if size == line.cell.size else f"{size} {numbers}")
    return "; ".join(parts)


class _NotGiven:
    """A number that the paper does not give, whatever the format."""

    def __format__(self, form: str) -> str:
        return "–"


def _seeds(line: Line) -> str:
    return str(len(line.runs)) if line.runs else ""


def _difference(line: Line) -> str:
    if line.difference is None:
        return ""
    return f"{points(line.difference)}: {verdict(line.difference)}"


def verdict(difference: Estimate) -> str:
    """Say what an interval around a difference allows to say."""
    if difference.interval is None:
        return "no interval"
    if difference.above_zero:
        return "higher"
    return "lower" if difference.below_zero else "inconclusive"


def _markdown(
    request: Request, made: Sequence[Line], header: list[str], body: list[list[str]], command: str, drawn: bool
) -> str:
    runs = list({run.folder.path: run for line in made for run in line.runs}.values())
    estimates = [part for line in made for part in (line.first, line.second, line.difference) if part is not None]
    declared = request.table.quantity is Quantity.area
    context = dict(
        table=request.table,
        scale=request.scale,
        scale_name=request.scale_name,
        grid=_grid(header, body),
        intervals=covers(request.table, made) if declared else list(dict.fromkeys(one.covers for one in estimates)),
        compared=any(row.paper for row in request.table.rows),
        level=LEVEL,
        steps=sorted({run.identity["steps"] for run in runs}),
        seeds=sorted({run.seed for run in runs}),
        unfinished=sum(line.missing for line in _distinct(made) if not line.cell.row.waits_for),
        waiting=waits([line.cell for line in made]),
        picture=f"{request.table.name}-{slug(request.scale_name)}.png" if drawn else None,
        made_with=made_with(runs) if runs else [],
        hours=sum((run.folder.done or {})["seconds"] for run in runs) / 3600,
        resumed=[f"{run.folder.path.parent.name}/{run.folder.path.name}" for run in runs if _attempts(run) > 1],
        command=command,
        rates=_row_rates(made),
        pooled=_grid(*pooled_grid(request.table, made)) if declared else "",
        contrasts=_grid(*contrast_grid(request.table, made)) if declared else "",
        robustness=_grid(*robustness_grid(request.table, made)),
        robustness_intervals=intervals(request.table, made),
        not_evaluated=missing(request.table, made),
    )
    return render("table.md", context)


def _row_rates(made: Sequence[Line]) -> list[str]:
    """Name the learning rates that a row gives its weightings, which no other place of the table says."""
    return [
        f"{', '.join(line.place)}: {line.cell.weighting} {line.cell.row.learning_rates[line.cell.weighting]:g}"
        for line in made
        if line.cell.weighting in line.cell.row.learning_rates
    ]


def _grid(header: list[str], body: list[list[str]]) -> str:
    """A table in Markdown; empty without a row."""
    if not body:
        return ""
    cells = [list(map(markdown, row)) for row in body]
    return tabulate(cells, [*map(markdown, header)], tablefmt="pipe", disable_numparse=True)


def _attempts(run: RunResult) -> int:
    return int((run.folder.done or {})["attempts"])


def _distinct(made: Sequence[Line]) -> list[Line]:
    """One line for each set of runs: rows for two outcomes of the same episodes share theirs."""
    return list({tuple(run.folder for run in line.cell.runs): line for line in made}.values())


def _latex(request: Request, header: list[str], body: list[list[str]], command: str) -> str:
    unit = "success in %" if request.table.quantity.of_success else "share in %"
    lines_of_comment = [
        f"% {one_line(request.table.title)}; scale {request.scale_name}; {unit}, 95 % confidence intervals in brackets",
        f"% {one_line(command)}",
    ]
    plain = [list(map(one_line, row)) for row in (header, *body)]
    table = tabulate(plain[1:], plain[0], tablefmt="latex_booktabs", disable_numparse=True)
    for symbol, macro in {"−": "$-$", "α": r"$\alpha$", "β": r"$\beta$", "Σ": r"$\Sigma$", "–": "--"}.items():
        table = table.replace(symbol, macro)
    return "\n".join([*lines_of_comment, table]) + "\n"


def _numbers(table: Table, made: Sequence[Line]) -> list[dict[str, object]]:
    """The table for machines: a row for each number."""
    sizes = list(dict.fromkeys(size for row in table.rows for size in row.paper))
    rows: list[dict[str, object]] = []
    for line in made:
        for position, (name, estimate) in enumerate(
            zip(
                (*NUMBER_NAMES[table.quantity], "difference"),
                (line.first, line.second, line.difference),
                strict=True,
            )
        ):
            paper = {f"paper_{size}": line.paper[size][position] for size in line.paper} if position < 2 else {}
            low, high = (estimate.interval or (None, None)) if estimate else (None, None)
            rows.append(
                {
                    **line.key,
                    "number": name,
                    "value": estimate.value if estimate else None,
                    "low": low,
                    "high": high,
                    "seeds": len(line.paired_seeds) if name == "difference" else len(line.runs),
                    "interval": estimate.covers if estimate else None,
                    **{f"paper_{size}": paper.get(f"paper_{size}") for size in sizes},
                }
            )
    return rows


def _evaluations(made: Sequence[Line]) -> list[dict[str, object]]:
    """Every evaluation of every run."""
    return [
        {
            **line.key,
            "seed": run.seed,
            "step": step,
            "rate": outcomes.rate,
            "episodes": int(outcomes.episodes.sum()),
            "commit": (run.folder.done or {})["commit"],
        }
        for line in made
        for run in line.runs
        for step, outcomes in run.outcomes(line.cell.row.outcome).items()
    ]


def _csv(rows: list[dict[str, object]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
    return buffer.getvalue()
