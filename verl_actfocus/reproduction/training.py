"""Runs or resumes the runs of a grid, one after another; one that fails is reported and the others go on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from verl_actfocus.experiment.comparison import check_conditions, outcome
from verl_actfocus.experiment.errors import RunFailedError
from verl_actfocus.experiment.execute import execute
from verl_actfocus.experiment.folder import RunFolder
from verl_actfocus.experiment.metrics import merge_attempts
from verl_actfocus.experiment.progress import Display
from verl_actfocus.experiment.results import RunResult
from verl_actfocus.experiment.runs import Run
from verl_actfocus.experiment.settings import compose_settings


@dataclass(frozen=True)
class Failure:
    """A run that did not come to its end."""

    run: Run
    error: RunFailedError


def train(runs: Sequence[Run], stream: TextIO | None = None) -> list[Failure]:
    """Run what is not finished yet.

    Everything that can be refused is refused before the first run starts.

    Args:
        runs: the runs, in the order in which to execute them.
        stream: where progress is written; None for the standard output.

    Returns:
        The runs that failed.

    Raises:
        ExperimentError: an override is not valid, or a folder holds runs made under other conditions.
    """
    stream = stream or sys.stdout
    settings = {run.folder: compose_settings(run) for run in runs}
    for condition in dict.fromkeys(run.folder.parent for run in runs):
        group = [run for run in runs if run.folder.parent == condition]
        check_conditions(condition, group, [settings[run.folder] for run in group])
    failures: list[Failure] = []
    for number, run in enumerate(runs, start=1):
        display = Display(f"[{number}/{len(runs)}] {title(run)}", stream)
        finished_before = RunFolder(run.folder).done is not None
        left = sum(RunFolder(later.folder).done is None for later in runs[number:])
        try:
            record = execute(
                run, settings[run.folder], display, runs_after=left, seconds_of_others=_mean_seconds(runs, run)
            )
        except RunFailedError as error:
            failures.append(Failure(run, error))
            display.close(f"FAILED, going on with the next run: {error}")
        else:
            display.close(outcome(RunResult.read(run.folder), record, finished_before))
    return failures


def title(run: Run) -> str:
    """Return a name of a run that is unique in a grid, such as ``sokoban-ppo/actfocus-seed1``."""
    return f"{run.folder.parent.name}/{run.folder.name}"


def state(run: Run) -> str:
    """Say in words how far a run is: done, begun, or not yet."""
    folder = RunFolder(run.folder)
    if folder.done is not None:
        return "done"
    if not folder.exists or folder.blank:
        return "to do"
    last = max(merge_attempts(folder.metrics(number) for number in folder.attempts()))
    return f"begun, step {last} of {run.steps}"


def _mean_seconds(runs: Sequence[Run], run: Run) -> float | None:
    """Mean wall time of the finished runs; those of the same algorithm and environment if there are any."""
    finished = {other: folder.done for other in runs if (folder := RunFolder(other.folder)).done is not None}
    alike = {
        other: done
        for other, done in finished.items()
        if (other.env, other.algorithm, other.steps) == (run.env, run.algorithm, run.steps)
    }
    seconds = [done["seconds"] for done in (alike or finished).values() if done is not None]
    return sum(seconds) / len(seconds) if seconds else None
