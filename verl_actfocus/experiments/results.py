"""Results of runs, read back from their folders as typed records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.folder import RunFolder
from verl_actfocus.experiments.metrics import Metrics, merge_attempts

#: veRL's timers: ``timing_s/<phase>``, seconds.
_TIMING = "timing_s/"
#: Largest difference between a success rate in the metrics and in the episodes behind it, from rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation of a run."""

    #: Training steps before it.
    step: int
    #: Share of solved episodes.
    success: float
    #: Successes by task.
    outcomes: Outcomes


@dataclass(frozen=True)
class RunResult:
    """A run with its metrics.

    Args:
        folder: its files.
        metrics: step → metrics, merged over the attempts.
    """

    folder: RunFolder
    metrics: dict[int, Metrics]

    @classmethod
    def read(cls, path: Path) -> RunResult:
        """Read a run.

        Raises:
            ExperimentError: there is no run in the folder, or a file of it cannot be read.
        """
        folder = RunFolder(path)
        if not folder.exists:
            raise ExperimentError(f"{path} holds no run: there is no run.json")
        return cls(folder, merge_attempts(folder.metrics(number) for number in folder.attempts()))

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the run is, see `verl_actfocus.experiments.runs.Run.identity`."""
        return self.folder.identity

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.identity["method"]

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.identity["seed"]

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """All evaluations, ascending by step.

        Raises:
            ExperimentError: the episodes of an evaluation are missing or contradict the metrics.
        """
        return [self._evaluation(step, metrics) for step, metrics in self.metrics.items() if "val/success" in metrics]

    @property
    def start(self) -> Evaluation:
        """The evaluation before training."""
        return self.evaluations[0]

    @property
    def final(self) -> Evaluation:
        """The evaluation after the last step."""
        return self.evaluations[-1]

    @property
    def peak(self) -> Evaluation:
        """The evaluation with the highest success, the first of equals."""
        return max(self.evaluations, key=lambda evaluation: evaluation.success)

    def outcomes(self, name: str = "success") -> dict[int, Outcomes]:
        """Return every evaluation's outcomes by step, ascending.

        Args:
            name: which outcome of an episode counts: a key of the evaluation's episodes.

        Raises:
            ExperimentError: the episodes are missing or lack the outcome.
        """
        if name == "success":
            return {evaluation.step: evaluation.outcomes for evaluation in self.evaluations}
        return {
            evaluation.step: read_outcomes(self.folder.evaluations / f"{evaluation.step}.jsonl", name)
            for evaluation in self.evaluations
        }

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Return the steps at which a metric was recorded, and its values."""
        points = [(step, metrics[name]) for step, metrics in self.metrics.items() if name in metrics]
        return [step for step, _ in points], [value for _, value in points]

    def phase_seconds(self) -> dict[str, list[float]]:
        """Return the wall time of every phase in each step that has it, in seconds."""
        phases: dict[str, list[float]] = {}
        for metrics in self.metrics.values():
            for name, value in metrics.items():
                if name.startswith(_TIMING):
                    phases.setdefault(name.removeprefix(_TIMING), []).append(value)
        return phases

    def _evaluation(self, step: int, metrics: Metrics) -> Evaluation:
        outcomes = read_outcomes(self.folder.evaluations / f"{step}.jsonl")
        if abs(outcomes.rate - metrics["val/success"]) > _ROUNDING:
            raise ExperimentError(
                f"{self.folder.path}: the metrics of step {step} say success {metrics['val/success']:.4f}, the "
                f"episodes in evaluations/{step}.jsonl say {outcomes.rate:.4f}; the files are not of one run"
            )
        return Evaluation(step=step, success=metrics["val/success"], outcomes=outcomes)


def read_outcomes(path: Path, name: str = "success") -> Outcomes:
    """Read the outcomes of an evaluation from the episodes that veRL wrote.

    Args:
        path: a file of ``trainer.validation_data_dir``; ``seed`` names the task of an episode.
        name: key of the outcome in an episode.

    Raises:
        ExperimentError: the file is missing, empty or of another form.
    """
    if not path.exists():
        raise ExperimentError(f"{path} is missing: the episodes of this evaluation were not written")
    pairs = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                episode = json.loads(line)
                pairs.append((int(episode["seed"]), bool(episode[name])))
            except (ValueError, KeyError, TypeError) as error:
                raise ExperimentError(
                    f"{path}, line {number}: not an evaluation episode with {name!r}: {line[:80]!r}"
                ) from error
    if not pairs:
        raise ExperimentError(f"{path} holds no episodes")
    return Outcomes.of(pairs)


def read_runs(path: Path) -> list[RunResult]:
    """Read all runs of a comparison, finished or not, by method and seed.

    Args:
        path: the comparison's folder; every run is a folder in it.

    Raises:
        ExperimentError: there is no run.
    """
    runs = [RunResult.read(file.parent) for file in sorted(path.glob("*/run.json"))]
    if not runs:
        raise ExperimentError(f"{path} holds no runs; actfocus compare --out {path} makes some")
    return sorted(runs, key=lambda run: (run.method, run.seed))
