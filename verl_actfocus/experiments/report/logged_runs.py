"""Runs of veRL to look at: folders that this package made, or files that veRL's own `file` logger wrote.

A run folder also holds the run's settings; a metrics file does not, and then they are "not recorded".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from verl_actfocus.experiments.report.provenance import NamedRow
from verl_actfocus.experiments.report.summary import method_order
from verl_actfocus.experiments.results.metrics import Metrics, merge_attempts
from verl_actfocus.experiments.results.run_result import RunResult, read_runs
from verl_actfocus.experiments.runs.run import SEED_KEYS
from verl_actfocus.storage.errors import ExperimentError

#: What stands where a run did not record something.
NOT_RECORDED = "not recorded"
#: What to do where there are no metrics.
_REMEDY = "veRL writes them with trainer.logger=['console','file'], into VERL_FILE_LOGGER_PATH"


@dataclass(frozen=True)
class LoggedRun:
    """The metrics of a run, whoever trained it."""

    path: Path
    #: Step → metrics, ascending.
    metrics: dict[int, Metrics]
    #: Dotted name → value; None if they were not recorded.
    settings: Mapping[str, Any] | None
    #: Name that the user gave; runs of one name are seeds of the same thing.
    name: str | None
    #: Name for people, if the user gave none.
    label: str

    def series(self, name: str) -> dict[int, float]:
        """Return step → value of a metric, where it is a finite number."""
        values = {step: metrics.get(name) for step, metrics in self.metrics.items()}
        return {step: float(v) for step, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}

    def names(self, pattern: str) -> list[str]:
        """Return the recorded metrics that a pattern of file names matches, sorted."""
        found = {name for metrics in self.metrics.values() for name in metrics if fnmatchcase(name, pattern)}
        return sorted(name for name in found if self.series(name))


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone."""

    label: str
    runs: list[LoggedRun]

    def series(self, name: str) -> list[dict[int, float]]:
        """Return the series of every run that has recorded the metric."""
        return [values for run in self.runs if (values := run.series(name))]

    def common(self, name: str) -> list[dict[int, float]]:
        """Return these series at the steps that all of them have, so that a mean over seeds is of equal steps.

        Every series is empty if they have no step in common.
        """
        series = self.series(name)
        steps = set.intersection(*(set(values) for values in series)) if series else set()
        return [{step: value for step, value in values.items() if step in steps} for values in series]

    @property
    def last_steps(self) -> list[int]:
        """The last step of every run."""
        return [max(run.metrics) for run in self.runs]


def read_logged(words: Iterable[str]) -> tuple[list[LoggedRun], list[Path]]:
    """Read runs.

    Args:
        words: `[NAME=]PATH` each; a path is a run's folder, the folder of a comparison, whose runs are all read, or a
            metrics file.

    Returns:
        The runs; and the folders in those of comparisons whose runs have no metrics yet and are left out.

    Raises:
        ExperimentError: a path is none of these, or holds no metrics.
    """
    runs: list[LoggedRun] = []
    left_out: list[Path] = []
    for word in words:
        found, begun = _read(*_name_and_path(word))
        runs += found
        left_out += begun
    seen: set[Path] = set()
    for run in runs:
        if run.path.resolve() in seen:
            raise ExperimentError(f"{run.path} is named twice; it would count as two seeds")
        seen.add(run.path.resolve())
    return runs, left_out


def grouped(runs: Sequence[LoggedRun]) -> list[Group]:
    """Put the runs together that differ in their seed alone, in the order in which they were named.

    Runs of one name are a group; without names those whose recorded settings are the same but for the seeds.

    Raises:
        ExperimentError: two runs of a group have one seed.
    """
    groups: dict[str, list[LoggedRun]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
    for group in groups.values():
        _require_own_seeds(group)
    labels = [group[0].name or group[0].label for group in groups.values()]
    return [
        Group(label if labels.count(label) == 1 else f"{label} ({group[0].path})", group)
        for label, group in zip(labels, groups.values(), strict=True)
    ]


def differing_settings(groups: Sequence[Group]) -> list[NamedRow]:
    """List the settings in which runs differ, a cell for each group; seeds are left out.

    Returns:
        No row if all runs that have recorded their settings, of one group or of several, have the same, or fewer than
        two have. Runs of one name may differ; then the group's cell holds all values.
    """
    recorded = [run.settings for group in groups for run in group.runs if run.settings is not None]
    names = sorted({name for settings in recorded for name in settings} - set(SEED_KEYS))
    different = [name for name in names if len({_text(settings.get(name)) for settings in recorded}) > 1]
    return [NamedRow(name, [_setting(group, name) for group in groups]) for name in different]


def _name_and_path(word: str) -> tuple[str | None, Path]:
    name, equals, path = word.partition("=")
    if Path(word).exists() or not equals:
        return None, Path(word)
    return name, Path(path)


def _read(name: str | None, path: Path) -> tuple[list[LoggedRun], list[Path]]:
    if path.is_dir() and not (path / "run.json").exists() and any(path.glob("*/run.json")):
        runs = sorted(read_runs(path), key=method_order)
        begun = [run.folder.path for run in runs if not run.metrics]
        if len(begun) == len(runs):
            raise ExperimentError(f"{path} holds no metrics yet: none of its runs has finished its first step")
        return [_of_folder(name, run) for run in runs if run.metrics], begun
    if path.is_dir():
        run = RunResult.read(path)
        if not run.metrics:
            raise ExperimentError(f"{path} holds no metrics yet: the run has not finished its first step")
        return [_of_folder(name, run)], []
    if not path.exists():
        raise ExperimentError(f"{path} does not exist; name run folders or metrics files. {_REMEDY}")
    metrics = merge_attempts([path])
    if not metrics:
        raise ExperimentError(f"{path} holds no metrics. {_REMEDY}")
    return [LoggedRun(path, metrics, None, name, path.stem)], []


def _of_folder(name: str | None, run: RunResult) -> LoggedRun:
    return LoggedRun(run.folder.path, run.metrics, run.folder.settings, name, run.label)


def _key(run: LoggedRun) -> str:
    if run.name is not None:
        return f"name {run.name}"
    if run.settings is None:
        return f"path {run.path}"
    return f"settings {_text({key: value for key, value in run.settings.items() if key not in SEED_KEYS})}"


def _require_own_seeds(group: Sequence[LoggedRun]) -> None:
    """Refuse one training seed that is counted twice, as far as seeds are recorded."""
    seen: dict[Any, LoggedRun] = {}
    for run in group:
        seed = (run.settings or {}).get(SEED_KEYS[0])
        if seed is not None and seen.setdefault(seed, run) is not run:
            raise ExperimentError(
                f"{seen[seed].path} and {run.path} have the same training seed, {seed}, and would count as two seeds; "
                "leave one out, or give them different names (NAME=PATH)"
            )


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _setting(group: Group, name: str) -> str:
    """Return a group's value of a setting, or all values if its runs differ."""
    cells = [
        NOT_RECORDED if run.settings is None else str(run.settings[name]) if name in run.settings else "absent"
        for run in group.runs
    ]
    return "; ".join(dict.fromkeys(cells))
