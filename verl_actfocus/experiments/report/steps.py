"""What the steps of runs cost, and whether anything went wrong in them, as the rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from statistics import median

from verl_actfocus.experiments.report.provenance import NamedRow
from verl_actfocus.experiments.report.summary import Summary, WeightingSummary
from verl_actfocus.experiments.results.run_result import RunResult

#: Timers that hold other timers; the rest are parts of a step.
_STEP, _TESTING = "step", "testing"
#: Parts of a run: timers and what they measure, what is left, and all of it.
_TIMED = {_STEP: "all steps", _TESTING: "evaluations after steps"}
_REST, _WHOLE = "the rest: start-up, first evaluation, steps repeated or not recorded", "whole run"
_PARTS = [*_TIMED.values(), _REST, _WHOLE]
#: Metric → name; counts are summed over steps and runs.
_COUNTS = {
    "rollout/excluded_trajectories": "trajectories excluded from training",
    "val/excluded_trajectories": "excluded evaluation episodes",
    "actfocus/skipped_updates": "skipped optimizer steps",
}
_PROBABILITIES = "training/rollout_probs_diff_max"
#: Shares of all turns of an evaluation → name: those that kept to the format, and those that the environment took, too.
TURNS = {"val/well_formed_turn_rate": "well-formed turns", "val/valid_turn_rate": "valid turns"}


def step_times(summary: Summary) -> list[NamedRow]:
    """Seconds per training step of each phase and of the whole step: median and, in brackets, least of all steps."""
    columns = [_seconds(one) for one in summary.weightings]
    names = {name for column in columns for name in column} - {_STEP, _TESTING}
    longest_first = sorted(names, key=lambda name: (-max(median(column.get(name, [0.0])) for column in columns), name))
    return [
        NamedRow(
            "whole step" if name == _STEP else name, [_median_and_least(column.get(name, [])) for column in columns]
        )
        for name in [*longest_first, _STEP]
    ]


def run_times(summary: Summary) -> list[NamedRow]:
    """Seconds per run for each weighting, mean over its runs."""
    columns = [[_parts(run) for run in one.runs] for one in summary.weightings]
    found = dict.fromkeys(name for column in columns for parts in column for name in parts)
    return [
        NamedRow(name, [_cell([parts[name] for parts in column if name in parts], _mean) for column in columns])
        for name in sorted(found, key=_PARTS.index)
    ]


def checks(summary: Summary) -> list[NamedRow]:
    """What should be zero or tiny, for each weighting over all its runs; empty where a run does not record it.

    Well-formed turns should not fall: what stands outside an action, reasoning and tags, is held by ActFocus's α alone.
    Steps without metrics are missing in curves and times.
    """
    rows = [
        NamedRow(label, [_cell(_values(one, metric), lambda values: f"{sum(values):g}") for one in summary.weightings])
        for metric, label in _COUNTS.items()
    ]
    largest = [_cell(_values(one, _PROBABILITIES), lambda values: f"{max(values):.1e}") for one in summary.weightings]
    return [
        *rows,
        NamedRow("training steps without metrics", [_unrecorded(one) for one in summary.weightings]),
        NamedRow("largest difference of a token's probability, rollout and forward pass", largest),
        *(
            NamedRow(
                f"{label} in %: largest fall (or least rise) from the highest before",
                [_fall(one, metric) for one in summary.weightings],
            )
            for metric, label in TURNS.items()
        ),
    ]


def _fall(one: WeightingSummary, metric: str) -> str:
    """From how many to how many, and where; of the run that lost most, or gained least."""
    series = [(run.seed, *run.series(metric)) for run in one.runs]
    later = [
        (share - highest, highest, share, seed, step)
        for seed, steps, values in series
        for step, share, highest in zip(steps[1:], values[1:], accumulate(values, max), strict=False)
    ]
    if not later:
        return ""
    _, highest, share, seed, step = min(later)
    return f"{100 * highest:.1f} to {100 * share:.1f} (seed {seed}, step {step})"


def _seconds(one: WeightingSummary) -> dict[str, list[float]]:
    """Phase → seconds in each step of all runs."""
    together: dict[str, list[float]] = {}
    for run in one.runs:
        for name, seconds in run.phase_seconds().items():
            together.setdefault(name, []).extend(seconds)
    return together


def _median_and_least(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.2f} ({min(seconds):.2f})" if seconds else ""


def _parts(run: RunResult) -> dict[str, float]:
    """Seconds of a run's parts; an archive leaves out most timers, and then what they measured is left out."""
    phases, done = run.phase_seconds(), run.folder.done
    whole = run.folder.seconds() if done is None else done["seconds"]
    timed = {name: sum(phases[timer]) for timer, name in _TIMED.items() if timer in phases}
    rest = {_REST: whole - sum(timed.values())} if len(timed) == len(_TIMED) else {}
    return {**timed, **rest, _WHOLE: whole}


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.1f}"


def _unrecorded(one: WeightingSummary) -> str:
    """How many training steps have no metrics, and which."""
    steps = {run.seed: run.unrecorded_steps for run in one.runs}
    which = [f"seed {seed}: {', '.join(map(str, missing))}" for seed, missing in steps.items() if missing]
    return str(sum(map(len, steps.values()))) + (f" ({'; '.join(which)})" if which else "")


def _values(one: WeightingSummary, metric: str) -> list[float]:
    return [value for run in one.runs for value in run.series(metric)[1]]


def _cell(values: list[float], words: Callable[[list[float]], str]) -> str:
    return words(values) if values else ""
