"""Runs or resumes the runs of a grid, one after another; one that fails is reported and the others go on."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from verl_actfocus.experiments.comparison import check_conditions, outcome
from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.execute import execute
from verl_actfocus.experiments.folder import RunFolder
from verl_actfocus.experiments.grid import folder_of
from verl_actfocus.experiments.metrics import merge_attempts
from verl_actfocus.experiments.progress import Display
from verl_actfocus.experiments.results import RunResult
from verl_actfocus.experiments.runs import Run
from verl_actfocus.experiments.settings import compose_settings


@dataclass(frozen=True)
class Failure:
    """A run that did not come to its end."""

    run: Run
    error: ExperimentError


def train(runs: Sequence[Run], stream: TextIO | None = None, *, delete_checkpoints: bool = False) -> list[Failure]:
    """Run what is not finished yet.

    Everything that can be refused is refused before the first run starts.

    Args:
        runs: the runs, in the order in which to execute them.
        stream: where progress is written; None for the standard output.
        delete_checkpoints: delete the checkpoints of every run that is done.

    Returns:
        The runs that failed, are in use or cannot be read.

    Raises:
        ExperimentError: an override is not valid, or a folder holds runs made under other conditions.
    """
    stream = stream or sys.stdout
    settings = {run.folder: compose_settings(run) for run in runs}
    for condition in dict.fromkeys(run.folder.parent for run in runs):
        group = [run for run in runs if run.folder.parent == condition]
        check_conditions(condition, group, [settings[run.folder] for run in group])
    for run in runs:
        RunFolder(run.folder).check(run, settings[run.folder])
    records = {run.folder: record for run in runs if (record := RunFolder(run.folder).done) is not None}
    finished_before = set(records)
    failures: list[Failure] = []
    for number, run in enumerate(runs, start=1):
        display = Display(f"[{number}/{len(runs)}] {title(run)}", stream)
        left = sum(later.folder not in records for later in runs[number:])
        others = _mean_seconds(runs, records, run)
        try:
            record = execute(run, settings[run.folder], display, runs_after=left, seconds_of_others=others)
            records[run.folder] = record
            line = outcome(RunResult.read(run.folder), record, run.folder in finished_before)
            if delete_checkpoints:
                RunFolder(run.folder).delete_checkpoints()
        except ExperimentError as error:
            failures.append(Failure(run, error))
            display.close(f"FAILED, going on with the next run: {error}")
        else:
            display.close(line)
    return failures


def title(run: Run) -> str:
    """Return a name of a run that is unique in a grid, such as ``sokoban-ppo/actfocus-seed1``."""
    return f"{run.folder.parent.name}/{run.folder.name}"


def state(run: Run) -> str:
    """Say in words how far a run is: done, begun, or not yet.

    Raises:
        ExperimentError: its folder holds a run made with other settings, or cannot be read.
    """
    folder = folder_of(run)
    if folder.done is not None:
        return "done"
    if not folder.exists or folder.blank:
        return "to do"
    metrics = merge_attempts(folder.metrics(number) for number in folder.attempts())
    return f"begun, step {max(metrics)} of {run.steps}" if metrics else "begun"


def _mean_seconds(runs: Sequence[Run], records: Mapping[Path, dict[str, Any]], run: Run) -> float | None:
    """Mean wall time of the finished runs; those of the same algorithm and environment if there are any."""
    finished = {other: records[other.folder]["seconds"] for other in runs if other.folder in records}
    alike = {
        other: seconds
        for other, seconds in finished.items()
        if (other.env, other.algorithm, other.steps) == (run.env, run.algorithm, run.steps)
    }
    seconds = list((alike or finished).values())
    return sum(seconds) / len(seconds) if seconds else None
