"""Results of runs, read back from their folders as typed records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from verl_actfocus.episodes.clusters import Outcomes
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.results.metrics import Metrics, merge_attempts
from verl_actfocus.experiments.runs.estimators import OWN, EstimatorChoice, method_label
from verl_actfocus.experiments.runs.weightings import WeightingChoice
from verl_actfocus.storage.errors import ExperimentError

#: veRL's timers: `timing_s/<phase>`, seconds.
_TIMING = "timing_s/"
#: Every training step has it, and no evaluation.
_STEP = "timing_s/step"
#: Largest difference between a success rate in the metrics and in the episodes behind it, from rounding.
_ROUNDING = 1e-6
#: What to do about a run that has lost its last evaluation, or its first.
_REMEDY = "Delete done.json there; the same command then finishes the run again"
_REMEDY_AT_START = "Delete the folder; the same command then makes the run again"
#: What an outcome of an episode may be.
_SOLVED = {0: False, 1: True}


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
        """What the run is, see `verl_actfocus.experiments.runs.composed_run.ComposedRun.identity`."""
        return self.folder.identity

    @cached_property
    def weighting(self) -> WeightingChoice:
        """What weights its tokens."""
        return WeightingChoice.parse(self.identity["weighting"])

    @cached_property
    def estimator(self) -> EstimatorChoice:
        """What estimates its advantages; a run that names none has the algorithm's own."""
        own = OWN[self.identity["algorithm"]]
        return EstimatorChoice.parse(self.identity["estimator"]) if "estimator" in self.identity else own

    @property
    def label(self) -> str:
        """Name of the run's method for people; the estimator is named where it is not the algorithm's own."""
        return method_label(self.weighting, self.estimator if "estimator" in self.identity else None)

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.identity["seed"]

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """All evaluations, ascending by step.

        Raises:
            ExperimentError: the episodes of an evaluation are missing or contradict the metrics, or the run is finished
                and its first or last evaluation is missing.
        """
        steps = [step for step, metrics in self.metrics.items() if "val/success" in metrics]
        if self.folder.done is not None:
            before = [0] if self.folder.settings["trainer.val_before_train"] else []
            for step in [*before, self.identity["steps"]]:
                if step not in steps:
                    raise ExperimentError(
                        f"{self.folder.path} is finished, but metrics-*.jsonl there hold no evaluation of step {step}: "
                        f"they have lost lines. {_REMEDY if step else _REMEDY_AT_START}"
                    )
        return [self._evaluation(step, self.metrics[step]) for step in steps]

    @property
    def unrecorded_steps(self) -> list[int]:
        """Training steps without metrics, up to the last one that is known of.

        veRL saves the checkpoint of a step before it writes the step's metrics. A run that is killed in between goes on
        behind the step.
        """
        return [step for step in range(1, max(self.metrics, default=0) + 1) if _STEP not in self.metrics.get(step, {})]

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

    def reevaluated(self, evaluation: str, changes: Mapping[str, float], name: str = "success") -> Outcomes | None:
        """Return the outcomes of an evaluation after training; None if it was not made, or not as it is declared.

        Args:
            evaluation: its name in the table that declares it.
            changes: what differs from the run's own evaluations.
            name: which outcome of an episode counts.

        Raises:
            ExperimentError: the file of its episodes cannot be read.
        """
        path = self.folder.reevaluated(evaluation, changes)
        return None if path is None else read_outcomes(path, name)

    def area(self, name: str = "success") -> float:
        """Return the mean rate of all evaluations but the one before training: the area under an evenly spaced curve.

        Args:
            name: which outcome of an episode counts.

        Raises:
            ExperimentError: the episodes are missing or lack the outcome.
        """
        rates = [outcomes.rate for step, outcomes in self.outcomes(name).items() if step > 0]
        return sum(rates) / len(rates)

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
        said, found = (metrics["val/success"], metrics["val/episodes"]), (outcomes.rate, int(outcomes.episodes.sum()))
        # Not the negation of "differs": NaN differs from nothing.
        if not (abs(said[0] - found[0]) <= _ROUNDING and said[1] == found[1]):
            raise ExperimentError(
                f"{self.folder.path}: the metrics of step {step} say success {said[0]:.4f} in {said[1]:g} episodes, "
                f"those in evaluations/{step}.jsonl say {found[0]:.4f} in {found[1]}; the files are not of one run, or "
                f"have lost lines. {_REMEDY_AT_START}"
            )
        return Evaluation(step=step, success=metrics["val/success"], outcomes=outcomes)


def read_outcomes(path: Path, name: str = "success") -> Outcomes:
    """Read the outcomes of an evaluation from the episodes that veRL wrote.

    Args:
        path: a file of `trainer.validation_data_dir`; `seed` names the task of an episode.
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
                pairs.append((int(episode["seed"]), _SOLVED[episode[name]]))
            except (ValueError, KeyError, TypeError) as error:
                raise ExperimentError(
                    f"{path}, line {number}: not an evaluation episode with {name!r}: {line[:80]!r}"
                ) from error
    if not pairs:
        raise ExperimentError(f"{path} holds no episodes")
    return Outcomes.of(pairs)


def read_runs(path: Path) -> list[RunResult]:
    """Read all runs in a folder, finished or not, by weighting, estimator and seed.

    Args:
        path: folder of a comparison; every run is a folder in it.

    Raises:
        ExperimentError: there is no run.
    """
    runs = [RunResult.read(file.parent) for file in sorted(path.glob("*/run.json"))]
    if not runs:
        raise ExperimentError(f"{path} holds no runs; actfocus compare --out {path} makes some")
    return sorted(runs, key=lambda run: (run.weighting, run.estimator, run.seed))
