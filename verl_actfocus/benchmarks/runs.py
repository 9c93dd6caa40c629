"""One run of veRL's trainer for a benchmark: started, watched, measured; a finished one is never repeated.

=================  =================================================================
`log.txt`        console output
`metrics.jsonl`  veRL's metrics, one line per step
`done.json`      written last: what was run, when, how long it took, peak memory
=================  =================================================================
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from verl_actfocus.benchmarks.memory import PeakMemory
from verl_actfocus.benchmarks.report import conditions
from verl_actfocus.experiments import processes, temporary
from verl_actfocus.experiments.errors import ExperimentError, RunFailedError
from verl_actfocus.experiments.execution import POLL_SECONDS, environment_of
from verl_actfocus.experiments.folder import write_json
from verl_actfocus.experiments.hydra_words import metrics_override
from verl_actfocus.experiments.logs import DeathNotices, error_lines
from verl_actfocus.experiments.metrics import Metrics, MetricsTail, merge_attempts
from verl_actfocus.experiments.progress import Display, RunProgress
from verl_actfocus.experiments.watchdog import Watchdog, census


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
        """
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        started, measured, peak = time.monotonic(), conditions(), PeakMemory()
        exit_code, reason = self._train(display, peak)
        seen = self.metrics() if (self.folder / "metrics.jsonl").exists() else {}
        if exit_code != 0 or max(seen, default=0) != self.steps:
            reason = reason or f"ended with exit code {exit_code}"
            how_far = f"after step {max(seen, default=0)} of {self.steps}"
            log = self.folder / "log.txt"
            raise RunFailedError(f"{self.folder} {reason} ({how_far})", error_lines(log), log)
        record = {
            "overrides": self.overrides,
            "conditions": measured,
            "seconds": round(time.monotonic() - started, 1),
            "peak_megabytes": peak.as_json(),
        }
        write_json(self.folder / "done.json", record)

    def _train(self, display: Display, peak: PeakMemory) -> tuple[int | None, str | None]:
        """Run the command; return its exit code and why it was ended, if it was."""
        place = temporary.claim(self.folder)
        metrics = self.folder / "metrics.jsonl"
        progress, tail = RunProgress(self.steps, time.monotonic()), MetricsTail(metrics)
        with (self.folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                [*self.command(), metrics_override(metrics)],
                stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                env=environment_of(self.folder, self._variables, own_ray=True, place=place), cwd=os.getcwd(),
            )  # fmt: skip
            processes.share_priority(process)
        look, told = partial(census, self.folder, set()), DeathNotices(self.folder / "log.txt", 0).new
        watchdog, standstill = Watchdog(look, time.monotonic(), told), None
        try:
            while process.poll() is None and standstill is None:
                now, news = time.monotonic(), False
                for step, values in tail.new_records():
                    progress.update(step, values, now)
                    news = True
                display.show(progress.line(now), news)
                peak.look(self.folder, now)
                watchdog.look(now, news)
                standstill = watchdog.verdict(now)
                time.sleep(POLL_SECONDS)
        finally:
            failed = bool(process.poll()) or standstill is not None
            processes.stop(process, self.folder)
            if place is not None:
                temporary.release(place, self.folder / "ray", keep_logs=failed)
        return process.returncode, None if standstill is None else f"was ended: {standstill}"
