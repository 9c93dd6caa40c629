"""Several methods under the same conditions: which runs that makes, and running them one after another."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.execute import execute
from verl_actfocus.experiments.folder import RunFolder
from verl_actfocus.experiments.progress import Display, duration
from verl_actfocus.experiments.results import RunResult
from verl_actfocus.experiments.runs import METHOD_KEYS, SEED_KEYS, Run
from verl_actfocus.experiments.settings import compose_settings, differences, in_words

#: Settings in which the runs of a comparison may differ.
_MAY_DIFFER = {*METHOD_KEYS, *SEED_KEYS}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Methods that are trained under the same conditions.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    #: ``grpo`` or ``ppo``.
    algorithm: str
    #: Name of an environment.
    env: str
    #: Training steps of every run.
    steps: int
    #: Number of training seeds: 0, 1, …
    seeds: int
    #: Names of the methods.
    methods: tuple[str, ...]
    #: Every run is a folder in this one.
    out: Path
    #: Hydra overrides of the user's own, the same for every run.
    extra: tuple[str, ...] = ()
    #: Configuration group under ``+actfocus/run``; empty for ``cpu_<env>``.
    profile: str = ""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"{self.seeds} seeds: there must be at least 1")
        if not self.methods:
            raise ValueError("no methods are given: there must be at least 1")
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"a method is named twice: {', '.join(self.methods)}")
        self.runs()

    def runs(self) -> list[Run]:
        """Return the runs, the methods of one seed next to each other."""
        return [
            Run(
                algorithm=self.algorithm,
                method=method,
                env=self.env,
                seed=seed,
                steps=self.steps,
                folder=self.out / f"{method}-seed{seed}",
                extra=self.extra,
                profile=self.profile,
            )
            for seed in range(self.seeds)
            for method in self.methods
        ]


def run_comparison(comparison: Comparison, stream: TextIO | None = None) -> None:
    """Run what is not finished yet, one run after another.

    Args:
        comparison: what to run.
        stream: where progress is written; None for the standard output.

    Raises:
        ExperimentError: the folder holds runs made under other conditions, or a run failed.
    """
    stream = stream or sys.stdout
    runs = comparison.runs()
    settings = [compose_settings(run) for run in runs]
    check_conditions(comparison.out, runs, settings)
    seconds_of_others: float | None = None
    for number, (run, composed) in enumerate(zip(runs, settings, strict=True), start=1):
        display = Display(f"[{number}/{len(runs)}] {run.name}", stream)
        finished_before = RunFolder(run.folder).done is not None
        left = sum(RunFolder(later.folder).done is None for later in runs[number:])
        record = execute(run, composed, display, runs_after=left, seconds_of_others=seconds_of_others)
        seconds_of_others = record["seconds"]
        display.close(outcome(RunResult.read(run.folder), record, finished_before))


def check_conditions(out: Path, runs: list[Run], settings: list[dict[str, Any]]) -> None:
    """Make sure that all runs of a folder, those there and those to come, differ in method and seed only.

    The weights of tokens are what makes a method, so runs of one method have the same.

    Args:
        out: folder of the comparison.
        runs: runs to come.
        settings: their complete settings, in the same order.

    Raises:
        ExperimentError: they differ in something else.
    """
    planned = [(run.name, run.method, values) for run, values in zip(runs, settings, strict=True)]
    folders = [RunFolder(file.parent) for file in sorted(out.glob("*/run.json"))]
    present = [(folder.path.name, folder.identity["method"], folder.settings) for folder in folders if not folder.blank]
    # Method → the first run of it.
    first_of: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, method, values in [*planned, *present]:
        other_name, other = first_of.setdefault(method, (name, values))
        _require_equal(out, (runs[0].name, _conditions(settings[0])), (name, _conditions(values)))
        _require_equal(out, (other_name, _weights(other)), (name, _weights(values)))


def _require_equal(out: Path, one: tuple[str, dict[str, Any]], other: tuple[str, dict[str, Any]]) -> None:
    changes = differences(other[1], one[1])
    if changes:
        raise ExperimentError(
            f"{one[0]} would not be comparable with {other[0]} in {out} ({in_words(changes)}); "
            "choose another --out or delete the folder"
        )


def _weights(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: settings.get(name) for name in METHOD_KEYS}


def _conditions(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _MAY_DIFFER}


def outcome(result: RunResult, record: dict[str, Any], finished_before: bool) -> str:
    """Say in a line what a finished run has achieved.

    Args:
        result: the run.
        record: what its ``done.json`` holds.
        finished_before: whether it was finished already when it was asked for.
    """
    change = f"evaluation success {result.start.success:.1%} -> {result.final.success:.1%} (step {result.final.step})"
    when = "finished before" if finished_before else f"done in {duration(record['seconds'])}"
    return f"{when}: {change}"
