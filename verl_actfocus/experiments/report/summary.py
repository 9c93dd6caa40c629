"""From the runs of a comparison to the numbers and the sentences of its report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.experiments.results.run_result import Evaluation, RunResult
from verl_actfocus.experiments.results.statistics import ONE_SEED, Estimate, difference, improvement, success_rate
from verl_actfocus.experiments.runs.estimators import OWN, EstimatorChoice, method_label
from verl_actfocus.experiments.runs.weightings import BASELINE, WeightingChoice
from verl_actfocus.storage.errors import ExperimentError


@dataclass(frozen=True)
class WeightingSummary:
    """What became of one weighting with one estimator, over its seeds."""

    weighting: WeightingChoice
    estimator: EstimatorChoice
    #: Name for people; the estimator is named where not all runs have the algorithm's own.
    label: str
    runs: list[RunResult]
    start: Estimate
    final: Estimate
    #: Highest evaluation of each run. A maximum of noisy values lies above what it estimates.
    peak: Estimate
    #: Steps of the highest evaluations, one for each run.
    peak_steps: list[int]
    #: Final minus start.
    improvement: Estimate

    @property
    def worked(self) -> bool:
        """Whether the final success is above the one at the start by more than the evaluation's sampling error."""
        return self.improvement.above_zero

    @property
    def sentence(self) -> str:
        """Whether training worked, in a sentence."""
        change = (
            f"success went from {percent(self.start.value)} to {percent(self.final.value)}, {_points(self.improvement)}"
        )
        if self.worked:
            return f"{self.label}: training worked: {change}, more than the evaluation's sampling error."
        if self.improvement.below_zero:
            return f"{self.label}: training made it worse: {change}, more than the evaluation's sampling error."
        return f"{self.label}: training is not shown to have worked: {change}, within the evaluation's sampling error."


@dataclass(frozen=True)
class Difference:
    """How a method compares with its baseline at the end of training, both by their labels."""

    method: str
    baseline: str
    #: Seeds that both have.
    seeds: list[int]
    estimate: Estimate

    @property
    def sentence(self) -> str:
        """The difference in a sentence, whichever way it falls."""
        name, base = self.method, self.baseline
        value = f"{name} − {base} in final success: {_points(self.estimate)}."
        if self.estimate.interval is None:
            return f"{value} Nothing can be said about the sampling error of this difference."
        if self.estimate.above_zero:
            return f"{value} The interval lies above zero: {name} did better than {base} here."
        if self.estimate.below_zero:
            return f"{value} The interval lies below zero: {name} did worse than {base} here."
        return f"{value} The interval includes zero: inconclusive between {name} and {base}."

    @property
    def scope(self) -> str:
        """What the interval covers, in words."""
        if len(self.seeds) == 1:
            return ONE_SEED
        return (
            f"{len(self.seeds)} training seeds: the interval covers the variation between training runs and the "
            "sampling of evaluation episodes, for this model, environment and set of evaluation tasks."
        )


@dataclass(frozen=True)
class Summary:
    """All numbers of a report."""

    weightings: list[WeightingSummary]
    differences: list[Difference]
    #: Runs that have not finished; nothing above uses them.
    unfinished: list[RunResult]

    @property
    def runs(self) -> list[RunResult]:
        """The finished runs."""
        return [run for one in self.weightings for run in one.runs]

    @property
    def intervals(self) -> list[str]:
        """What the intervals of the success rates are, each in words and once."""
        rates = [rate for one in self.weightings for rate in (one.start, one.final, one.peak)]
        return list(dict.fromkeys(rate.covers for rate in rates))


def summarise(runs: list[RunResult]) -> Summary:
    """Summarise the runs of a comparison.

    Args:
        runs: finished and unfinished ones.

    Raises:
        ExperimentError: none is finished, or they were not evaluated on the same tasks.
    """
    finished = [run for run in runs if run.folder.done is not None]
    unfinished = [run for run in runs if run.folder.done is None]
    if not finished:
        begun = ", ".join(run.folder.path.name for run in unfinished)
        raise ExperimentError(f"no run has finished yet ({begun}); the command that began them continues them")
    named = any(run.label != run.weighting.label for run in finished)
    weightings = [
        _summarise([run for run in finished if _method(run) == method], named=named)
        for method in dict.fromkeys(_method(run) for run in sorted(finished, key=method_order))
    ]
    return Summary(weightings, _differences(weightings), unfinished)


def method_order(run: RunResult) -> tuple[Any, ...]:
    """Sort runs: the algorithm's own estimator first, of an estimator the baseline, of a method by seed."""
    own = OWN[run.identity["algorithm"]]
    return (run.estimator != own, run.estimator, run.weighting != BASELINE, run.weighting, run.seed)


def baseline_first(weightings: Iterable[WeightingChoice]) -> list[WeightingChoice]:
    """Return weightings, each once, in the order of a report."""
    return sorted(set(weightings), key=lambda choice: (choice != BASELINE, choice))


def percent(share: float) -> str:
    """Write a share as a percentage.

    Example:
        >>> percent(0.2031)
        '20.3 %'
    """
    return f"{100 * share:.1f} %"


def with_interval(estimate: Estimate) -> str:
    """Write a share with its interval.

    Example:
        >>> with_interval(Estimate(0.25, (0.2, 0.31), ""))
        '25.0 % [20.0, 31.0]'
    """
    if estimate.interval is None:
        return percent(estimate.value)
    low, high = estimate.interval
    return f"{percent(estimate.value)} [{100 * low:.1f}, {100 * high:.1f}]"


def in_percent(estimate: Estimate | None) -> str:
    """Write a share in per cent, with its interval; nothing for None."""
    return "" if estimate is None else _with_ends(estimate, 100.0)


def in_numbers(estimate: Estimate | None) -> str:
    """Write a number with its interval; nothing for None."""
    return "" if estimate is None else _with_ends(estimate, 1.0)


def _with_ends(estimate: Estimate, factor: float) -> str:
    value = f"{factor * estimate.value:.1f}"
    if estimate.interval is None:
        return value
    low, high = estimate.interval
    return f"{value} [{factor * low:.1f}, {factor * high:.1f}]"


def points(estimate: Estimate) -> str:
    """Write a difference of shares in percentage points, with its interval.

    Example:
        >>> points(Estimate(0.05, (-0.01, 0.11), ""))
        '+5.0 [-1.0, +11.0]'
        >>> points(Estimate(-1e-17, None, ""))
        '+0.0'
    """
    value, *ends = (f"{round(100 * share, 1) + 0.0:+.1f}" for share in (estimate.value, *(estimate.interval or ())))
    return f"{value} [{ends[0]}, {ends[1]}]" if ends else value


def _points(estimate: Estimate) -> str:
    if estimate.interval is None:
        return f"{100 * estimate.value:+.1f} points ({estimate.covers})"
    low, high = estimate.interval
    return f"{100 * estimate.value:+.1f} points (95 % CI {100 * low:+.1f} to {100 * high:+.1f}, {estimate.covers})"


def _method(run: RunResult) -> tuple[WeightingChoice, EstimatorChoice]:
    return run.weighting, run.estimator


def _summarise(runs: list[RunResult], *, named: bool) -> WeightingSummary:
    def outcomes(pick: Callable[[RunResult], Evaluation]) -> list[Outcomes]:
        return [pick(run).outcomes for run in runs]

    weighting, estimator = _method(runs[0])
    start, final = outcomes(lambda run: run.start), outcomes(lambda run: run.final)
    return WeightingSummary(
        weighting=weighting,
        estimator=estimator,
        label=method_label(weighting, estimator if named else None),
        runs=runs,
        start=success_rate(start),
        final=success_rate(final),
        peak=success_rate(outcomes(lambda run: run.peak)),
        peak_steps=[run.peak.step for run in runs],
        improvement=improvement(final, start),
    )


def _differences(weightings: list[WeightingSummary]) -> list[Difference]:
    """Compare each method with the baseline under its estimator, and that one with the baseline under the first."""
    baselines = {one.estimator: one for one in reversed(weightings) if one.weighting == BASELINE}
    if not baselines:
        return []
    first = next(one for one in weightings if one.weighting == BASELINE)
    found = []
    for one in weightings:
        baseline = first if one.weighting == BASELINE else baselines.get(one.estimator, first)
        estimate, seeds = paired(*({run.seed: run.final.outcomes for run in group.runs} for group in (one, baseline)))
        if one is not baseline and estimate is not None:
            found.append(Difference(one.label, baseline.label, seeds, estimate))
    return found


def paired(second: Mapping[int, Outcomes], first: Mapping[int, Outcomes]) -> tuple[Estimate | None, list[int]]:
    """Compare evaluations, given by seed, over the seeds that both have.

    Returns:
        The difference `second` − `first`, None without a common seed, and these seeds.

    Raises:
        ExperimentError: the tasks differ.
    """
    seeds = sorted(second.keys() & first.keys())
    estimate = difference([second[seed] for seed in seeds], [first[seed] for seed in seeds]) if seeds else None
    return estimate, seeds
