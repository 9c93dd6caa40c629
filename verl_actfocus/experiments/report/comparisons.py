"""What a table of final success and area concludes: paired comparisons, corrected, pooled and contrasted.

A protocol declares its comparisons before the runs (`recipes/paper/PROTOCOL.md`). A table is one question: p-values are
corrected over its comparisons within one algorithm and one number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from verl_actfocus.experiments.report.figures import Line, baseline_of
from verl_actfocus.experiments.results import RunResult
from verl_actfocus.experiments.run_statistics import (
    difference_of_means,
    holm,
    interquartile_mean,
    paired_p_value,
    probability_of_improvement,
)
from verl_actfocus.experiments.statistics import Estimate, clipped, mean_over_seeds
from verl_actfocus.experiments.tables import Table

#: Level of a conclusion.
LEVEL = 0.05


def final(run: RunResult, outcome: str) -> float:
    """Success rate at the last evaluation."""
    outcomes = run.outcomes(outcome)
    return outcomes[max(outcomes)].rate


#: Name of a number → how a run gives it.
NUMBERS: dict[str, Callable[[RunResult, str], float]] = {"final": final, "area": RunResult.area}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One number of a line compared with the baseline's, paired by seed."""

    line: Line
    #: `final` or `area`.
    number: str
    #: Seed → number of the line minus that of the baseline.
    differences: Mapping[int, float]
    #: Mean difference with Student's t interval.
    estimate: Estimate
    #: Two-sided p-value of the paired t-test; None where there is none.
    p_value: float | None
    #: The p-value, corrected by Holm.
    corrected: float | None = None

    @property
    def verdict(self) -> str:
        """What may be concluded, in a word: by the corrected p-value."""
        return verdict(self.estimate, self.corrected)


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """A weighting over all rows of an algorithm in which both it and the baseline have finished runs."""

    algorithm: str
    weighting: str
    number: str
    #: Names of the rows.
    rows: tuple[str, ...]
    #: Interquartile means of the weighting and of the baseline.
    mean: Estimate
    baseline: Estimate
    #: Probability that a run of the weighting is above one of the baseline.
    improvement: Estimate


@dataclass(frozen=True, kw_only=True)
class Contrasted:
    """How much larger a weighting's difference to the baseline is in one row than in another."""

    weighting: str
    larger: str
    than: str
    number: str
    estimate: Estimate
    p_value: float | None

    @property
    def verdict(self) -> str:
        """What may be concluded, in a word."""
        return verdict(self.estimate, self.p_value)


def verdict(estimate: Estimate, p_value: float | None) -> str:
    """Say what a p-value allows to say about a difference."""
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
            own, other = values(line, number), values(baseline, number)
            differences = {seed: own[seed] - other[seed] for seed in sorted(own.keys() & other.keys())}
            if differences:
                each = list(differences.values())
                estimate = clipped(mean_over_seeds(each), -1.0, 1.0)
                found.append(
                    Comparison(
                        line=line,
                        number=number,
                        differences=differences,
                        estimate=estimate,
                        p_value=paired_p_value(each),
                    )
                )
    return _corrected(found)


def pooled(table: Table, made: Sequence[Line]) -> list[Pooled]:
    """Pool the lines of every weighting and algorithm over rows; nothing where there are fewer than two.

    Args:
        table: the table.
        made: its lines.
    """
    found = []
    for algorithm in dict.fromkeys(line.cell.row.algorithm for line in made):
        for weighting in table.weightings:
            pairs = [
                (line, baseline)
                for line in made
                if (line.cell.row.algorithm, line.cell.weighting) == (algorithm, weighting) and line.runs
                if (baseline := baseline_of(table, made, line)) is not None and baseline.runs
            ]
            for number in NUMBERS if len(pairs) > 1 else ():
                own = [_scores(line, number) for line, _ in pairs]
                other = [_scores(baseline, number) for _, baseline in pairs]
                found.append(
                    Pooled(
                        algorithm=algorithm,
                        weighting=weighting,
                        number=number,
                        rows=tuple(line.cell.row.name for line, _ in pairs),
                        mean=interquartile_mean(own),
                        baseline=interquartile_mean(other),
                        improvement=probability_of_improvement(own, other),
                    )
                )
    return found


def contrasted(table: Table, made: Sequence[Comparison]) -> list[Contrasted]:
    """Test the contrasts of a table, where both rows have a comparison.

    Args:
        table: the table.
        made: its comparisons.
    """
    differences = {(one.line.cell.row.name, one.line.cell.weighting, one.number): one.differences for one in made}
    found = []
    for contrast in table.contrasts:
        for number in NUMBERS:
            pair = [differences.get((row, contrast.weighting, number)) for row in (contrast.larger, contrast.than)]
            if pair[0] is not None and pair[1] is not None:
                estimate, p_value = difference_of_means(list(pair[0].values()), list(pair[1].values()))
                found.append(
                    Contrasted(
                        weighting=contrast.weighting,
                        larger=contrast.larger,
                        than=contrast.than,
                        number=number,
                        estimate=estimate,
                        p_value=p_value,
                    )
                )
    return found


def values(line: Line, number: str) -> dict[int, float]:
    """Return seed → number of a line's finished runs."""
    return {run.seed: NUMBERS[number](run, line.cell.row.outcome) for run in line.runs}


def _scores(line: Line, number: str) -> NDArray[np.float64]:
    return np.array(list(values(line, number).values()))


def _corrected(made: Sequence[Comparison]) -> list[Comparison]:
    families: dict[tuple[str, str], list[int]] = {}
    for place, one in enumerate(made):
        families.setdefault((one.line.cell.row.algorithm, one.number), []).append(place)
    corrected = list(made)
    for places in families.values():
        for place, p_value in zip(places, holm([made[place].p_value for place in places]), strict=True):
            corrected[place] = replace(made[place], corrected=p_value)
    return corrected
