"""Launches runs: composed and checked all together before the first one starts, then trained one after another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from verl_actfocus.experiments.execution.progress import Display, duration
from verl_actfocus.experiments.execution.training import execute
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.results.metrics import merge_attempts
from verl_actfocus.experiments.results.run_result import RunResult
from verl_actfocus.experiments.runs.composed_run import ComposedRun, compose_run
from verl_actfocus.experiments.runs.estimators import ESTIMATOR_SECTION
from verl_actfocus.experiments.runs.run import ESTIMATORS, SEED_KEYS, Run
from verl_actfocus.experiments.runs.weightings import SECTION
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.settings import differences, in_words, within


@dataclass(eq=False)
class Planned:
    """A run on its way: composed and checked, perhaps finished."""

    composed: ComposedRun
    folder: RunFolder
    #: What `done.json` holds; None until the run is finished.
    record: dict[str, Any] | None
    #: Whether an archive that the user names holds it.
    archived: bool = False

    @property
    def run(self) -> Run:
        """The run."""
        return self.composed.run

    @cached_property
    def result(self) -> RunResult:
        """The finished run, read from its folder."""
        return RunResult.read(self.folder.path)

    def state(self) -> str:
        """Say in words how far the run is: done, here or in an archive, begun, or not yet."""
        if self.record is not None:
            return "done"
        if self.archived:
            return "in the archive"
        if not self.folder.exists or self.folder.blank:
            return "to do"
        metrics = merge_attempts(self.folder.metrics(number) for number in self.folder.attempts())
        return f"begun, step {max(metrics)} of {self.composed.steps}" if metrics else "begun"


@dataclass(frozen=True)
class Failure:
    """A run that did not come to its end."""

    run: Run
    error: ExperimentError


def plan(runs: Iterable[Run], *, starts: bool = True) -> list[Planned]:
    """Compose runs and refuse everything that can be refused before the first one starts.

    Args:
        runs: the runs.
        starts: whether they may be started; a table of finished ones needs no models.

    Raises:
        ExperimentError: a configuration is not valid, a folder holds something else, or runs in one folder differ in
            more than weighting and seed.
    """
    planned = []
    for run in runs:
        composed, folder = compose_run(run, starts=starts), RunFolder(run.folder)
        folder.check(composed)
        planned.append(Planned(composed, folder, folder.done))
    for place in dict.fromkeys(one.run.conditions.folder for one in planned):
        check_comparable(place, [one.composed for one in planned if one.run.conditions.folder == place])
    return planned


def launch(
    planned: Sequence[Planned],
    stream: TextIO | None = None,
    *,
    keep_going: bool = True,
    when_done: Callable[[RunFolder], None] | None = None,
) -> list[Failure]:
    """Train what is not finished yet, one run after another.

    Args:
        planned: the runs, in the order in which to train them.
        stream: where progress is written; None for the standard output.
        keep_going: whether a failure leaves the others to be trained.
        when_done: called with every run that is done, also with one that was finished before.

    Returns:
        The runs that failed, are in use or cannot be read.
    """
    stream = stream or sys.stdout
    for step in dict.fromkeys(str(one.composed.step) for one in planned):
        print(f"a training step: {step}", file=stream)
    failures: list[Failure] = []
    for number, one in enumerate(planned, start=1):
        display = Display(f"[{number}/{len(planned)}] {one.run.title}", stream)
        try:
            display.close(_train(one, planned, number, display))
            if when_done is not None:
                _follow_up(one, when_done)
        except ExperimentError as error:
            failures.append(Failure(one.run, error))
            display.close(f"FAILED: {error}")
            if not keep_going:
                break
    return failures


def listing(planned: Sequence[Planned]) -> str:
    """Return every run with its state, what its steps consist of and its command."""
    lines = [f"{one.run.title}: {one.state()}\n  {one.composed.step}\n  {one.run.shell_command()}" for one in planned]
    return "\n".join([*lines, f"{len(planned)} runs, {sum(one.record is not None for one in planned)} done"])


def check_comparable(place: Path, composed: Sequence[ComposedRun]) -> None:
    """Make sure that all runs in a folder, there or to come, differ in weighting, estimator and seed only.

    Args:
        place: the folder.
        composed: runs to come.

    Raises:
        ExperimentError: they differ in something else, runs of one method have different settings of it, or runs to
            come have the same method under two names.
    """
    to_come = [_Compared(one.run.folder.name, one.identity(), one.settings) for one in composed]
    folders = [RunFolder(file.parent) for file in sorted(place.glob("*/run.json"))]
    there = [_Compared(one.path.name, one.identity, one.settings) for one in folders if not one.blank]
    reference = to_come[0]
    first_of: dict[tuple[str, str], _Compared] = {}
    for run in [*to_come, *there]:
        first = first_of.setdefault(run.method, run)
        changes = differences(run.common(), reference.common())
        other = reference
        if not changes:
            changes, other = differences(run.of_method(), first.of_method()), first
        if changes:
            raise ExperimentError(
                f"{other.name} would not be comparable with {run.name} in {place} ({in_words(changes)}); "
                "choose another --out or delete the folder"
            )
    weights: dict[str, str] = {}
    for run in to_come:
        weighting = run.identity["weighting"]
        same = weights.setdefault(str(sorted(within(run.settings, SECTION).items())), weighting)
        if same != weighting:
            raise ExperimentError(f"{same!r} and {weighting!r} are the same weighting; name it once")


@dataclass(frozen=True)
class _Compared:
    """A run beside others in a folder."""

    name: str
    identity: Mapping[str, Any]
    settings: dict[str, Any]

    @property
    def method(self) -> tuple[str, str]:
        """Weighting and estimator, the latter empty for the algorithm's own."""
        return self.identity["weighting"], self.identity.get("estimator", "")

    def common(self) -> dict[str, Any]:
        """Return the settings that are no part of the method; algorithms are told apart by their own estimators."""
        kept = {
            name: value
            for name, value in self.settings.items()
            if name not in SEED_KEYS and not name.startswith((f"{SECTION}.", f"{ESTIMATOR_SECTION}."))
        }
        return kept | {"algorithm.adv_estimator": ESTIMATORS[self.identity["algorithm"]]}

    def of_method(self) -> dict[str, Any]:
        """Return the settings of weighting and estimator."""
        estimator = {f"estimator.{name}": value for name, value in within(self.settings, ESTIMATOR_SECTION).items()}
        return within(self.settings, SECTION) | estimator


def _train(one: Planned, planned: Sequence[Planned], number: int, display: Display) -> str:
    """Train a run unless it is finished; return what it has achieved, in a line."""
    when = "finished before"
    if one.record is None:
        left = sum(later.record is None for later in planned[number:])
        others = _mean_seconds(planned, one.composed)
        try:
            one.record = execute(one.composed, display, runs_after=left, seconds_of_others=others)
        except OSError as error:  # a folder that cannot be made, or whose disk has gone; others may lie elsewhere
            raise ExperimentError(
                f"{one.run.title} cannot be trained in {one.folder.path}: {error}; once that is mended, the same "
                "command continues"
            ) from error
        when = f"done in {duration(one.record['seconds'])}"
    start, final = one.result.start, one.result.final
    return f"{when}: evaluation success {start.success:.1%} -> {final.success:.1%} (step {final.step})"


def _follow_up(one: Planned, when_done: Callable[[RunFolder], None]) -> None:
    """Call what follows a run that is done.

    Raises:
        ExperimentError: it failed, which is not the run's failure.
    """
    try:
        when_done(one.folder)
    except (ExperimentError, OSError) as error:
        raise ExperimentError(f"{one.run.title} is done, and what follows it has failed: {error}") from error


def _mean_seconds(planned: Sequence[Planned], composed: ComposedRun) -> float | None:
    """Mean wall time of the finished runs; those of the same algorithm, environment and length if there are any."""

    def kind(identity: Mapping[str, Any]) -> list[Any]:
        return [identity[name] for name in ("env", "algorithm", "steps")]

    records = [one.record for one in planned if one.record is not None]
    alike = [record for record in records if kind(record) == kind(composed.identity())]
    seconds = [record["seconds"] for record in alike or records]
    return sum(seconds) / len(seconds) if seconds else None
