"""Learning curves of a table: the picture, and the difference to the baseline at every evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.experiments.report.figures import Line, baseline_of
from verl_actfocus.experiments.report.plots import (
    BANDS,
    colour,
    draw_success,
    finish,
    from_ten_below,
    make_room_for_legends,
    marker,
    png,
    put_title,
)
from verl_actfocus.experiments.report.summary import paired
from verl_actfocus.experiments.tables.table import Table

_COLUMNS_OF_PLOTS = 3
#: Weightings that have the first colours in the picture of every table, so that they are known in all of them.
_ALWAYS = ("uniform", "actfocus")


def step_differences(table: Table, made: Sequence[Line]) -> list[dict[str, object]]:
    """Compare every weighting with the baseline at every evaluation.

    Args:
        table: the table.
        made: its lines.

    Returns:
        A row for each line but the baseline's and each step at which finished runs of both with the same seed were
        evaluated: the mean difference of success, weighting − baseline, its interval, and how many seeds are behind it.
        The last step is the difference in the table.

    Raises:
        ExperimentError: the evaluations were made on different tasks.
    """
    rows: list[dict[str, object]] = []
    for line in made:
        baseline = baseline_of(table, made, line)
        if baseline is None:
            continue
        own, other = _by_step(line), _by_step(baseline)
        for step in sorted(own.keys() & other.keys()):
            estimate, seeds = paired(own[step], other[step])
            if estimate is None:
                continue
            low, high = estimate.interval or (None, None)
            rows.append(
                {
                    **line.key,
                    "baseline": table.baseline,
                    "step": step,
                    "difference": estimate.value,
                    "low": low,
                    "high": high,
                    "seeds": len(seeds),
                    "interval": estimate.covers,
                }
            )
    return rows


def _by_step(line: Line) -> dict[int, dict[int, Outcomes]]:
    """Step → seed → outcomes of the evaluation."""
    evaluations: dict[int, dict[int, Outcomes]] = {}
    for run in line.runs:
        for step, outcomes in run.outcomes(line.cell.row.outcome).items():
            evaluations.setdefault(step, {})[run.seed] = outcomes
    return evaluations


def picture(table: Table, made: Sequence[Line]) -> bytes:
    """Draw success over training steps, a plot for each row and model size with finished runs.

    Args:
        table: the table.
        made: its lines; there is a finished run among them.

    Returns:
        A PNG file.
    """
    panels: dict[tuple[int, str], list[Line]] = {}
    for line in made:
        if line.runs:
            panels.setdefault((id(line.cell.row), line.cell.size), []).append(line)
    # Other colours are for what is drawn: a table may have many more weightings than there are colours.
    drawn = [name for name in table.weightings if any(line.runs and line.cell.weighting == name for line in made)]
    places = [*_ALWAYS, *(name for name in drawn if name not in _ALWAYS)]
    columns = min(_COLUMNS_OF_PLOTS, len(panels))
    height = -(-len(panels) // columns)
    # Wide enough for the title, however few the plots.
    figure = Figure(figsize=(max(6.4, 4.6 * columns), 3.8 * height), layout="constrained")
    # Models, algorithms and sizes of one environment are compared with each other, success of different ones is not.
    alike: dict[tuple[str, str], list[Axes]] = {}
    for position, panel in enumerate(panels.values(), start=1):
        axes = figure.add_subplot(height, columns, position)
        for line in panel:
            index = places.index(line.cell.weighting)
            seeds = f"{len(line.runs)} seed{'s' if len(line.runs) > 1 else ''}"
            label = f"{table.weightings[line.cell.weighting].label} ({seeds})"
            runs = [run.outcomes(line.cell.row.outcome) for run in line.runs]
            draw_success(axes, runs, label, colour(index), marker(index))
        finish(axes, ", ".join(panel[0].place), "success rate (%)")
        alike.setdefault((panel[0].cell.row.env, panel[0].cell.row.outcome), []).append(axes)
    for axes_of_one in alike.values():
        from_ten_below(*axes_of_one)
    put_title(figure, f"{table.title} ({BANDS})")
    make_room_for_legends(figure)
    return png(figure)
