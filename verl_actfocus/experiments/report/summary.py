"""From the runs of a comparison to the numbers and the sentences of its report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.results import Evaluation, RunResult
from verl_actfocus.experiments.runs import BASELINE
from verl_actfocus.experiments.statistics import ONE_SEED, Estimate, difference, improvement, success_rate

#: Method → how people write it.
LABELS = {"uniform": "Uniform", "actfocus": "ActFocus"}


@dataclass(frozen=True)
class MethodSummary:
    """What became of one method, over its seeds."""

    method: str
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
    def label(self) -> str:
        """Name for people."""
        return label(self.method)

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
    """How a method compares with the baseline at the end of training."""

    method: str
    baseline: str
    #: Seeds that both have.
    seeds: list[int]
    estimate: Estimate

    @property
    def sentence(self) -> str:
        """The difference in a sentence, whichever way it falls."""
        name, base = label(self.method), label(self.baseline)
        value = f"{name} − {base} in final success: {_points(self.estimate)}."
        if self.estimate.interval is None:
            return f"{value} Nothing can be said about the sampling error of this difference."
        if self.estimate.above_zero:
            return f"{value} The interval lies above zero: {name} did better than {base} here."
        if self.estimate.below_zero:
            return f"{value} The interval lies below zero: {name} did worse than {base} here."
        return f"{value} The interval includes zero: this comparison does not tell {name} and {base} apart."

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

    methods: list[MethodSummary]
    differences: list[Difference]
    #: Runs that have not finished; nothing above uses them.
    unfinished: list[RunResult]

    @property
    def runs(self) -> list[RunResult]:
        """The finished runs."""
        return [run for method in self.methods for run in method.runs]

    @property
    def intervals(self) -> list[str]:
        """What the intervals of the success rates are, each in words and once."""
        rates = [rate for method in self.methods for rate in (method.start, method.final, method.peak)]
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
    names = baseline_first(run.method for run in finished)
    methods = [_method(name, [run for run in finished if run.method == name]) for name in names]
    return Summary(methods, _differences(methods), unfinished)


def baseline_first(methods: Iterable[str]) -> list[str]:
    """Return names of methods, each once, in the order of a report."""
    return sorted(set(methods), key=lambda name: (name != BASELINE, name))


def label(method: str) -> str:
    """Return the name of a method for people."""
    return LABELS.get(method, method)


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


def points(estimate: Estimate) -> str:
    """Write a difference of shares in percentage points, with its interval.

    Example:
        >>> points(Estimate(0.05, (-0.01, 0.11), ""))
        '+5.0 [-1.0, +11.0]'
    """
    if estimate.interval is None:
        return f"{100 * estimate.value:+.1f}"
    low, high = estimate.interval
    return f"{100 * estimate.value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _points(estimate: Estimate) -> str:
    if estimate.interval is None:
        return f"{100 * estimate.value:+.1f} points ({estimate.covers})"
    low, high = estimate.interval
    return f"{100 * estimate.value:+.1f} points (95 % CI {100 * low:+.1f} to {100 * high:+.1f}, {estimate.covers})"


def _method(name: str, runs: list[RunResult]) -> MethodSummary:
    def outcomes(pick: Callable[[RunResult], Evaluation]) -> list[Outcomes]:
        return [pick(run).outcomes for run in runs]

    start, final = outcomes(lambda run: run.start), outcomes(lambda run: run.final)
    return MethodSummary(
        method=name,
        runs=runs,
        start=success_rate(start),
        final=success_rate(final),
        peak=success_rate(outcomes(lambda run: run.peak)),
        peak_steps=[run.peak.step for run in runs],
        improvement=improvement(final, start),
    )


def _differences(methods: list[MethodSummary]) -> list[Difference]:
    baseline = next((method for method in methods if method.method == BASELINE), None)
    if baseline is None:
        return []
    base = {run.seed: run.final.outcomes for run in baseline.runs}
    found = []
    for method in methods:
        own = {run.seed: run.final.outcomes for run in method.runs}
        seeds = sorted(own.keys() & base.keys())
        if method is not baseline and seeds:
            estimate = difference([own[seed] for seed in seeds], [base[seed] for seed in seeds])
            found.append(Difference(method.method, BASELINE, seeds, estimate))
    return found
