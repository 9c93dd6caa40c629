"""Whether a table's differences hold when its runs are evaluated otherwise: at another temperature, on other tasks.

Every number is of final success: a last checkpoint has no area.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.experiments.report.comparison_tables import Cells
from verl_actfocus.experiments.report.figures import Line, baseline_of, final_outcomes
from verl_actfocus.experiments.report.summary import in_percent, paired, points
from verl_actfocus.experiments.results.run_statistics import difference_of_means
from verl_actfocus.experiments.results.statistics import Estimate, success_rate
from verl_actfocus.experiments.tables.table import AS_IN_TRAINING, IN_TRAINING, Contrast, Table


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
            own = _outcomes(table, line, name)
            other = {} if baseline is None else _outcomes(table, baseline, name)
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


@dataclass(frozen=True, kw_only=True)
class Between:
    """How much larger a difference is in one row than in another, under one evaluation."""

    contrast: Contrast
    evaluation: str
    estimate: Estimate
    #: Seeds behind the two differences, the smaller number.
    seeds: int

    @property
    def key(self) -> tuple[str, str, str]:
        """Weighting and rows; the number that was declared plays no part."""
        return self.contrast.weighting, self.contrast.larger, self.contrast.than


def between(table: Table, found: Sequence[Evaluated]) -> list[Between]:
    """Return the declared contrasts under every evaluation that both rows have.

    Args:
        table: the table.
        found: its lines under every evaluation.
    """
    differences = {
        (one.line.cell.row.name, one.line.cell.weighting, one.evaluation): [*one.differences.values()] for one in found
    }
    contrasts = {(one.weighting, one.larger, one.than): one for one in table.contrasts}
    made = []
    for (weighting, *rows), contrast in contrasts.items():
        for name in (IN_TRAINING, *table.evaluations):
            larger, than = (differences.get((row, weighting, name), []) for row in rows)
            if larger and than:
                estimate, _ = difference_of_means(larger, than)
                seeds = min(len(larger), len(than))
                made.append(Between(contrast=contrast, evaluation=name, estimate=estimate, seeds=seeds))
    return made


def missing(table: Table, made: Sequence[Line]) -> int:
    """Count the evaluations of finished runs that were not made, or not as the table declares them."""
    runs = {run.folder.path: run.folder for line in made for run in line.runs}
    declared = [(name, other.changes) for name, other in table.evaluations.items()]
    return sum(folder.reevaluated(*one) is None for folder in runs.values() for one in declared)


def intervals(table: Table, made: Sequence[Line]) -> list[str]:
    """Name what the intervals of rates and differences cover."""
    found = [one for line in evaluated(table, made) for one in (line.value, line.difference) if one is not None]
    return list(dict.fromkeys(one.covers for one in found))


def robustness_grid(table: Table, made: Sequence[Line]) -> Cells:
    """Rates, differences and declared contrasts, an evaluation in each column; no cells if none was made."""
    found = evaluated(table, made)
    names = (IN_TRAINING, *table.evaluations)
    labels = [AS_IN_TRAINING, *(other.label for other in table.evaluations.values())]
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
    contrasted = between(table, found)
    for weighting, larger, than in dict.fromkeys(one.key for one in contrasted):
        some = {one.evaluation: points(one.estimate) for one in contrasted if one.key == (weighting, larger, than)}
        label = f"{table.weightings[weighting].label} − {base}"
        rows.append(["", f"{larger} − {than}", label, *(some.get(name, "") for name in names)])
    return ["environment", "model", "final success of", *labels], rows


def robustness_rows(table: Table, made: Sequence[Line]) -> list[dict[str, object]]:
    """The same for machines: a row for each number; of a contrast the rows stand in the place of the model."""
    found = evaluated(table, made)
    rows = []
    for one in found:
        rows.append(_row(one.line.key, one.evaluation, "final", one.value, one.seeds))
        rows.append(_row(one.line.key, one.evaluation, "difference", one.difference, len(one.differences)))
    for two in between(table, found):
        place = dict.fromkeys(made[0].key, "") | {
            "model": f"{two.contrast.larger} - {two.contrast.than}",
            "weighting": two.contrast.weighting,
        }
        rows.append(_row(place, two.evaluation, "contrast", two.estimate, two.seeds))
    return rows


def _row(
    place: Mapping[str, object], evaluation: str, number: str, estimate: Estimate | None, seeds: int
) -> dict[str, object]:
    low, high = (estimate.interval or (None, None)) if estimate else (None, None)
    return {
        **place,
        "evaluation": evaluation,
        "number": number,
        "value": estimate.value if estimate else None,
        "low": low,
        "high": high,
        "seeds": seeds,
        "interval": estimate.covers if estimate else None,
    }


def _outcomes(table: Table, line: Line, name: str) -> dict[int, Outcomes]:
    """Seed → outcomes of the runs that were evaluated so."""
    if name == IN_TRAINING:
        return {run.seed: final_outcomes(run, line.cell) for run in line.runs}
    changes, outcome = table.evaluations[name].changes, line.cell.row.outcome
    found = {run.seed: run.reevaluated(name, changes, outcome) for run in line.runs}
    return {seed: outcomes for seed, outcomes in found.items() if outcomes is not None}
