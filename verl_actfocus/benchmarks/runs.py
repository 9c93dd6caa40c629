"""One run of veRL's trainer for a benchmark: started, watched, measured; a finished one is never repeated.

=================  =================================================================
`log.txt`        console output
`metrics.jsonl`  veRL's metrics, one line per step
`done.json`      written last: what was run, when, how long it took, peak memory
=================  =================================================================
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from verl_actfocus.benchmarks.memory import PeakMemory
from verl_actfocus.benchmarks.report import conditions
from verl_actfocus.experiments.execution.logs import error_lines
from verl_actfocus.experiments.execution.progress import Display
from verl_actfocus.experiments.execution.supervision import Training, Watch, how_it_ended, refuse_orphans
from verl_actfocus.experiments.results.metrics import Metrics, merge_attempts
from verl_actfocus.experiments.runs.hydra_words import metrics_override
from verl_actfocus.storage.disk import full, write_json
from verl_actfocus.storage.errors import ExperimentError, RunFailedError


class BenchmarkRun:
    """A run in a folder of its own.

    Args:
        folder: everything that the run writes.
        overrides: Hydra overrides, complete.
        steps: training steps that they ask for.
        variables: environment variables that they need, veRL's platform among them.
    """

    def __init__(self, folder: Path, overrides: Sequence[str], steps: int, variables: Mapping[str, str]) -> None:
        self.folder = folder
        self.overrides = list(overrides)
        self.steps = steps
        self._variables = variables

    @property
    def done(self) -> dict[str, Any] | None:
        """What `done.json` says; None for a run that has not finished.

        Raises:
            ExperimentError: the folder holds a run with other settings.
        """
        path = self.folder / "done.json"
        if not path.exists():
            return None
        record: dict[str, Any] = json.loads(path.read_text())
        if record["overrides"] != self.overrides:
            changed = sorted(set(record["overrides"]) ^ set(self.overrides))
            raise ExperimentError(
                f"{self.folder} holds a run with other settings ({', '.join(changed)}); choose another --out or "
                f"delete it"
            )
        return record

    def command(self) -> list[str]:
        """Return the command line as a list of arguments."""
        return [sys.executable, "-W", "ignore", "-m", "verl.trainer.main_ppo", *self.overrides]

    def metrics(self) -> dict[int, Metrics]:
        """Return the metrics of the finished run by step."""
        return merge_attempts([self.folder / "metrics.jsonl"])

    def execute(self, display: Display) -> None:
        """Train from the first step to the last, whatever an interrupted command has left.

        Raises:
            RunFailedError: the training ended before its last step, or stood still.
            ExperimentError: processes of a command that was killed still train there, or the disk is full.
        """
        refuse_orphans(self.folder)
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        started, measured, peak = time.monotonic(), conditions(), PeakMemory()
        log, metrics = self.folder / "log.txt", self.folder / "metrics.jsonl"
        training = Training(
            [*self.command(), metrics_override(metrics)],
            self.folder,
            log,
            self._variables,
            own_ray=True,
            ray_logs=self.folder / "ray",
        )
        standstill = training.run(_MeasuringWatch(metrics, self.steps, display, self.folder, peak))
        seen = self.metrics() if metrics.exists() else {}
        if training.exit_code or standstill or max(seen, default=0) != self.steps:
            errors = error_lines(log)
            if standstill is not None:
                how = f"was ended: {standstill}"
            elif training.exit_code:
                how = how_it_ended(training.exit_code)
            else:
                how = "ended before its last step"
            reason = f"{self.folder} {how} (after step {max(seen, default=0)} of {self.steps})"
            raise RunFailedError("; ".join(filter(None, (reason, full(self.folder, errors)))), errors, log)
        record = {
            "overrides": self.overrides,
            "conditions": measured,
            "seconds": round(time.monotonic() - started, 1),
            "peak_megabytes": peak.as_json(),
        }
        write_json(self.folder / "done.json", record)


class _MeasuringWatch(Watch):
    """Measures the memory of the run's processes, too."""

    def __init__(self, metrics: Path, steps: int, display: Display, folder: Path, peak: PeakMemory) -> None:
        super().__init__(metrics, steps, display)
        self._folder, self._peak = folder, peak

    def look(self, now: float) -> bool:
        self._peak.look(self._folder, now)
        return super().look(now)
