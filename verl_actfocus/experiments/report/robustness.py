"""Whether a table's differences hold when its runs are evaluated otherwise: at another temperature, on other tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.experiments.report.comparison_tables import Grid
from verl_actfocus.experiments.report.figures import Line, baseline_of
from verl_actfocus.experiments.report.summary import in_percent, paired, points
from verl_actfocus.experiments.run_statistics import difference_of_means
from verl_actfocus.experiments.statistics import Estimate, success_rate
from verl_actfocus.experiments.tables import IN_TRAINING, Contrast, Table

#: Label of the training's last evaluation, beside which the others stand.
_AS_IN_TRAINING = "as in training"


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One line of a table under one evaluation. What was not evaluated is None."""

    line: Line
    #: Name of the evaluation, `IN_TRAINING` for the training's last.
    evaluation: str
    #: Success rate over the seeds that were evaluated.
    value: Estimate | None
    #: Seeds behind it.
    seeds: int
    #: Difference to the baseline's line, paired by seed; None for the baseline's own.
    difference: Estimate | None
    #: Seed → that difference.
    differences: Mapping[int, float]


def evaluated(table: Table, made: Sequence[Line]) -> list[Evaluated]:
    """Return every line under every evaluation, the training's first.

    Args:
        table: the table.
        made: its lines.

    Raises:
        ExperimentError: the episodes of an evaluation cannot be read.
    """
    found = []
    for line in made:
        baseline = baseline_of(table, made, line)
        for name in (IN_TRAINING, *table.evaluations):
            own = _outcomes(line, name)
            other = {} if baseline is None else _outcomes(baseline, name)
            difference, seeds = paired(own, other)
            found.append(
                Evaluated(
                    line=line,
                    evaluation=name,
                    value=success_rate([*own.values()]) if own else None,
                    seeds=len(own),
                    difference=difference,
                    differences={seed: own[seed].rate - other[seed].rate for seed in seeds},
                )
            )
    return found


def missing(table: Table, made: Sequence[Line]) -> int:
    """Count the evaluations of finished runs that were not made."""
    runs = {run.folder.path: run for line in made for run in line.runs}
    return sum(run.reevaluated(name) is None for run in runs.values() for name in table.evaluations)


def robustness_grid(table: Table, made: Sequence[Line]) -> Grid:
    """Rates, differences and declared contrasts, an evaluation in each column; no cells if none was made."""
    found = evaluated(table, made)
    names = (IN_TRAINING, *table.evaluations)
    labels = [_AS_IN_TRAINING, *(other.label for other in table.evaluations.values())]
    base = table.weightings[table.baseline].label
    if not any(one.value for one in found if one.evaluation != IN_TRAINING):
        return [], []
    rows = []
    for line in made:
        label = table.weightings[line.cell.weighting].label
        own = [one for one in found if one.line is line]
        rows.append([*line.place, label, *(in_percent(one.value) for one in own)])
        if line.cell.weighting != table.baseline:
            cells = ["" if one.difference is None else points(one.difference) for one in own]
            rows.append([*line.place, f"{label} − {base}", *cells])
    for contrast in table.contrasts:
        label = f"{table.weightings[contrast.weighting].label} − {base}"
        between = [_between(contrast, [one for one in found if one.evaluation == name]) for name in names]
        if any(between):
            cells = ["" if one is None else points(one) for one in between]
            rows.append(["", f"{contrast.larger} − {contrast.than}", label, *cells])
    return ["environment", "model", "final success of", *labels], rows


def robustness_rows(table: Table, made: Sequence[Line]) -> list[dict[str, object]]:
    """The same for machines: a row for each number."""
    rows: list[dict[str, object]] = []
    for one in evaluated(table, made):
        pairs = (("final", one.value, one.seeds), ("difference", one.difference, len(one.differences)))
        for number, estimate, seeds in pairs:
            low, high = (estimate.interval or (None, None)) if estimate else (None, None)
            rows.append(
                {
                    **one.line.key,
                    "evaluation": one.evaluation,
                    "number": number,
                    "value": estimate.value if estimate else None,
                    "low": low,
                    "high": high,
                    "seeds": seeds,
                }
            )
    return rows


def _outcomes(line: Line, name: str) -> dict[int, Outcomes]:
    """Seed → outcomes of the runs that were evaluated so."""
    outcome = line.cell.row.outcome
    if name == IN_TRAINING:
        return {run.seed: (every := run.outcomes(outcome))[max(every)] for run in line.runs}
    found = {run.seed: run.reevaluated(name, outcome) for run in line.runs}
    return {seed: outcomes for seed, outcomes in found.items() if outcomes is not None}


def _between(contrast: Contrast, found: Sequence[Evaluated]) -> Estimate | None:
    """How much larger a difference is in one row than in another; None where one was not evaluated."""
    pair = [
        [*one.differences.values()]
        for row in (contrast.larger, contrast.than)
        for one in found
        if (one.line.cell.row.name, one.line.cell.weighting) == (row, contrast.weighting)
    ]
    return difference_of_means(*pair)[0] if len(pair) == 2 and all(pair) else None
