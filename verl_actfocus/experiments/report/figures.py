"""The numbers of a table: estimates with intervals from the runs that have finished, beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from verl_actfocus.envs import registry
from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.experiments.report.summary import paired
from verl_actfocus.experiments.results.run_result import RunResult
from verl_actfocus.experiments.results.statistics import Estimate, clipped, mean_over_seeds, success_rate
from verl_actfocus.experiments.tables.grid import Cell
from verl_actfocus.experiments.tables.table import Quantity, Table
from verl_actfocus.storage.errors import ExperimentError

#: Metrics of the first training step, whose rollout is the untrained model's.
_TOKENS, _ACTION_SHARE = "rollout/response_length", "actfocus/token_share/action"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a table: a weighting in a row, for one model size.

    The two numbers are final and peak success, final success and area, or tokens per trajectory and share of action
    tokens. A number that was not measured is None: its cell stays blank.
    """

    cell: Cell
    #: Model size → the paper's two numbers; several sizes where ours has no counterpart.
    paper: dict[str, list[float | None]]
    #: The finished runs.
    runs: tuple[RunResult, ...] = ()
    first: Estimate | None = None
    second: Estimate | None = None
    #: First number of this weighting minus that of the baseline, over the seeds that both have.
    difference: Estimate | None = None
    #: Seeds behind `difference`.
    paired_seeds: tuple[int, ...] = ()
    #: Runs that are not finished.
    missing: int = 0

    @property
    def key(self) -> dict[str, object]:
        """What the line is, as columns of a file."""
        row = self.cell.row
        return {
            "environment": row.env,
            "algorithm": row.algorithm,
            "outcome": row.outcome,
            "model": self.cell.size,
            "weighting": self.cell.weighting,
        }

    @property
    def place(self) -> list[str]:
        """Environment and model size for people."""
        row = self.cell.row
        name = registry.spec(row.env).id.split("/")[1].rsplit("-", 1)[0]
        return [f"{name}, {row.algorithm.upper()}{', ' + row.label if row.label else ''}", self.cell.size]


def lines(table: Table, chosen: Sequence[Cell], finished: Mapping[Path, RunResult]) -> list[Line]:
    """Compute the lines of a table.

    Args:
        table: the table.
        chosen: its cells.
        finished: folder → run, of those that are finished.

    Returns:
        A line for each cell, in the same order.

    Raises:
        ExperimentError: runs were not evaluated on the same tasks, or their files contradict each other.
    """
    made = []
    for cell in chosen:
        base = next(
            (c for c in chosen if c.row is cell.row and c.size == cell.size and c.weighting == table.baseline), cell
        )
        others = () if base is cell else _of(base, finished)
        made.append(_line(table, cell, _of(cell, finished), others))
    return made


def baseline_of(table: Table, made: Sequence[Line], line: Line) -> Line | None:
    """Return the line that a line is compared with; None for a baseline's own, or if it was not asked for."""
    if line.cell.weighting == table.baseline:
        return None
    alike = (one for one in made if one.cell.row is line.cell.row and one.cell.size == line.cell.size)
    return next((one for one in alike if one.cell.weighting == table.baseline), None)


def _line(table: Table, cell: Cell, runs: tuple[RunResult, ...], baseline: tuple[RunResult, ...]) -> Line:
    paper = _paper(cell)
    missing = len(cell.runs) - len(runs)
    if not runs:
        return Line(cell=cell, paper=paper, missing=missing)
    if table.quantity is Quantity.action_tokens:
        return Line(
            cell=cell,
            paper=paper,
            runs=runs,
            missing=missing,
            first=mean_over_seeds([_at_first_step(run, _TOKENS) for run in runs]),
            second=mean_over_seeds([_at_first_step(run, _ACTION_SHARE) for run in runs]),
        )
    estimate, seeds = paired(*({run.seed: final_outcomes(run, cell) for run in group} for group in (runs, baseline)))
    return Line(
        cell=cell,
        paper=paper,
        runs=runs,
        missing=missing,
        first=success_rate([final_outcomes(run, cell) for run in runs]),
        second=_second(table, runs, cell),
        difference=estimate,
        paired_seeds=tuple(seeds),
    )


def _second(table: Table, runs: Sequence[RunResult], cell: Cell) -> Estimate:
    if table.quantity is Quantity.area:
        return clipped(mean_over_seeds([run.area(cell.row.outcome) for run in runs]), 0.0, 1.0)
    return success_rate([_peak(run, cell) for run in runs])


def _paper(cell: Cell) -> dict[str, list[float | None]]:
    numbers = {size: values[cell.weighting] for size, values in cell.row.paper.items() if cell.weighting in values}
    return {cell.size: numbers[cell.size]} if cell.size in numbers else numbers


def _of(cell: Cell, finished: Mapping[Path, RunResult]) -> tuple[RunResult, ...]:
    return tuple(finished[run.folder] for run in cell.runs if run.folder in finished)


def final_outcomes(run: RunResult, cell: Cell) -> Outcomes:
    """Return the outcomes of a run's last evaluation, of what the row counts."""
    outcomes = run.outcomes(cell.row.outcome)
    return outcomes[max(outcomes)]


def _peak(run: RunResult, cell: Cell) -> Outcomes:
    return max(run.outcomes(cell.row.outcome).values(), key=attrgetter("rate"))


def _at_first_step(run: RunResult, metric: str) -> float:
    values = dict(zip(*run.series(metric), strict=True))
    if 1 not in values:
        # veRL saves the checkpoint of a step, evaluates, and writes the step's metrics last.
        raise ExperimentError(
            f"{run.folder.path} has no {metric} of step 1: it was interrupted after the step's checkpoint and before "
            "its metrics, and resumed behind it; delete the folder, the same command then makes the run again"
        )
    return values[1]
