"""What a table of final success and area concludes: paired comparisons, corrected, pooled and contrasted.

A protocol declares its comparisons before the runs (`recipes/paper/PROTOCOL.md`). A table is a question: p-values are
corrected over all its comparisons within one algorithm and one number, those not made included, and nothing is
concluded before all declared seeds have finished. Outcomes other than success are shown without a conclusion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from verl_actfocus.experiments.report.figures import Line, baseline_of
from verl_actfocus.experiments.results.run_result import RunResult
from verl_actfocus.experiments.results.run_statistics import (
    difference_of_means,
    holm,
    interquartile_mean,
    paired_p_value,
    probability_of_improvement,
)
from verl_actfocus.experiments.results.statistics import Estimate, clipped, mean_over_seeds
from verl_actfocus.experiments.tables.table import NUMBERS, Row, Table

#: Level of a conclusion.
LEVEL = 0.05


def final(run: RunResult, outcome: str) -> float:
    """Success rate at the last evaluation."""
    outcomes = run.outcomes(outcome)
    return outcomes[max(outcomes)].rate


#: How a run gives a number.
_GIVEN: dict[str, Callable[[RunResult, str], float]] = {"final": final, "area": RunResult.area}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One number of a line compared with the baseline's, paired by seed."""

    line: Line
    #: `final` or `area`.
    number: str
    #: Seed → number of the line minus that of the baseline.
    differences: Mapping[int, float]
    #: Mean difference with Student's t interval; of one pair, *final* has an interval over tasks and *area* none.
    estimate: Estimate
    #: Two-sided p-value of the paired t-test; None where there is none.
    p_value: float | None
    #: The p-value, corrected by Holm.
    corrected: float | None = None
    #: Whether all declared seeds of both have finished.
    finished: bool = True

    @property
    def conclusion(self) -> str:
        """What may be concluded, in a word: by the corrected p-value."""
        return conclusion(self.estimate, self.corrected, finished=self.finished)


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """A weighting over all rows of an algorithm and an outcome in which both it and the baseline have finished runs."""

    algorithm: str
    outcome: str
    weighting: str
    number: str
    #: Names of the rows.
    rows: tuple[str, ...]
    #: Interquartile means of the weighting and of the baseline.
    mean: Estimate
    baseline: Estimate
    #: Probability that a run of the weighting is above one of the baseline.
    improvement: Estimate
    #: Whether all rows of the algorithm and the outcome are there, with all declared seeds.
    finished: bool

    @property
    def conclusion(self) -> str:
        """What may be concluded, in a word, where the number is the declared answer: by the probability's interval."""
        low, high = self.improvement.interval or (0.0, 1.0)
        if not self.finished:
            return "unfinished"
        return "helps" if low > 0.5 else "harms" if high < 0.5 else "not shown"


@dataclass(frozen=True, kw_only=True)
class Contrasted:
    """How much larger a weighting's difference to the baseline is in one row than in another."""

    weighting: str
    larger: str
    than: str
    number: str
    estimate: Estimate
    p_value: float | None
    finished: bool

    @property
    def conclusion(self) -> str:
        """What may be concluded, in a word."""
        return conclusion(self.estimate, self.p_value, finished=self.finished)


def conclusion(estimate: Estimate, p_value: float | None, *, finished: bool) -> str:
    """Say what a p-value allows to say about a difference."""
    if not finished:
        return "unfinished"
    if p_value is None:
        return "no test"
    if p_value >= LEVEL:
        return "inconclusive"
    return "higher" if estimate.value > 0 else "lower"


def comparisons(table: Table, made: Sequence[Line]) -> list[Comparison]:
    """Compare every line with the baseline's of its row, over the seeds that both have.

    Args:
        table: the table.
        made: its lines.

    Returns:
        A record for each line beside the baseline's and each number, where there is a common seed.
    """
    found = []
    for line in made:
        baseline = baseline_of(table, made, line)
        if baseline is None:
            continue
        for number in NUMBERS:
            own, other = _values(line, number), _values(baseline, number)
            differences = {seed: own[seed] - other[seed] for seed in sorted(own.keys() & other.keys())}
            if differences:
                each = list(differences.values())
                # One pair of runs has an interval over tasks, which the line has; of an area there is none.
                alone = line.difference if number == "final" and len(each) == 1 else None
                estimate = alone or clipped(mean_over_seeds(each), -1.0, 1.0)
                found.append(
                    Comparison(
                        line=line,
                        number=number,
                        differences=differences,
                        estimate=estimate,
                        p_value=paired_p_value(each) if line.cell.row.outcome == "success" else None,
                        finished=_finished(table, line, baseline),
                    )
                )
    return _corrected(table, found)


def pooled(table: Table, made: Sequence[Line]) -> list[Pooled]:
    """Pool the lines of every weighting and algorithm over rows; nothing where there are fewer than two.

    Args:
        table: the table.
        made: its lines.
    """
    found = []
    for algorithm, outcome, size in dict.fromkeys(map(_pool, made)):
        for weighting in table.weightings:
            pairs = [
                (line, baseline)
                for line in made
                if (_pool(line), line.cell.weighting) == ((algorithm, outcome, size), weighting) and line.runs
                if (baseline := baseline_of(table, made, line)) is not None and baseline.runs
            ]
            declared = [row for row in table.rows if _declares(row, (algorithm, outcome, size))]
            finished = len(pairs) == len(declared) and all(_finished(table, *pair) for pair in pairs)
            for number in NUMBERS if len(pairs) > 1 else ():
                own = [_scores(line, number) for line, _ in pairs]
                other = [_scores(baseline, number) for _, baseline in pairs]
                found.append(
                    Pooled(
                        algorithm=algorithm,
                        outcome=outcome,
                        weighting=weighting,
                        number=number,
                        rows=tuple(line.cell.row.name for line, _ in pairs),
                        mean=interquartile_mean(own),
                        baseline=interquartile_mean(other),
                        improvement=probability_of_improvement(own, other),
                        finished=finished,
                    )
                )
    return found


def contrasted(table: Table, made: Sequence[Comparison]) -> list[Contrasted]:
    """Test the contrasts of a table, where both rows have a comparison.

    Args:
        table: the table.
        made: its comparisons.
    """
    by_row = {(one.line.cell.row.name, one.line.cell.weighting, one.number): one for one in made}
    found = []
    for contrast in table.contrasts:
        pair = [by_row.get((row, contrast.weighting, contrast.number)) for row in (contrast.larger, contrast.than)]
        larger, than = pair
        if larger is None or than is None:
            continue
        estimate, p_value = difference_of_means(list(larger.differences.values()), list(than.differences.values()))
        found.append(
            Contrasted(
                weighting=contrast.weighting,
                larger=contrast.larger,
                than=contrast.than,
                number=contrast.number,
                estimate=estimate,
                p_value=p_value,
                finished=larger.finished and than.finished,
            )
        )
    return found


def _pool(line: Line) -> tuple[str, str, str]:
    """Algorithm, outcome and model size: lines are pooled over what else tells rows apart."""
    row = line.cell.row
    return row.algorithm, row.outcome, "" if row.variant else line.cell.size


def _declares(row: Row, pool: tuple[str, str, str]) -> bool:
    """Whether a row has a line of a pool, once it has run."""
    algorithm, outcome, size = pool
    sizes = [""] if row.variant else row.sizes or [size]
    return (row.algorithm, row.outcome) == (algorithm, outcome) and size in sizes


def _finished(table: Table, line: Line, baseline: Line) -> bool:
    """Whether both lines have all seeds that were declared."""
    return all(one.missing == 0 and (table.seeds is None or len(one.runs) >= table.seeds) for one in (line, baseline))


def _values(line: Line, number: str) -> dict[int, float]:
    """Return seed → number of a line's finished runs."""
    return {run.seed: _GIVEN[number](run, line.cell.row.outcome) for run in line.runs}


def _scores(line: Line, number: str) -> NDArray[np.float64]:
    return np.array(list(_values(line, number).values()))


def _corrected(table: Table, made: Sequence[Comparison]) -> list[Comparison]:
    """Correct p-values over the declared comparisons of an algorithm and a number."""
    corrected = list(made)
    for algorithm in dict.fromkeys(row.algorithm for row in table.rows):
        rows = [row for row in table.rows if (row.algorithm, row.outcome) == (algorithm, "success")]
        family = sum(len(row.sizes) or 1 for row in rows) * (len(table.weightings) - 1)
        for number in NUMBERS:
            places = [
                place
                for place, one in enumerate(made)
                if (one.line.cell.row.algorithm, one.number) == (algorithm, number)
            ]
            p_values = holm([made[place].p_value for place in places], family)
            for place, p_value in zip(places, p_values, strict=True):
                corrected[place] = replace(made[place], corrected=p_value)
    return corrected
