"""Runs a training command to its end: progress while it lasts, an explanation when it fails, nothing left behind."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from verl_actfocus.experiments import machine, processes
from verl_actfocus.experiments.errors import ExperimentError, RunFailedError
from verl_actfocus.experiments.folder import RunFolder
from verl_actfocus.experiments.locks import locked
from verl_actfocus.experiments.logs import error_lines
from verl_actfocus.experiments.metrics import Metrics, MetricsTail, merge_attempts
from verl_actfocus.experiments.progress import Display, RunProgress
from verl_actfocus.experiments.runs import PLATFORM_VARIABLE, Run, metrics_override

#: Seconds between two looks at a run.
POLL_SECONDS = 0.5
#: Quiet, and a Ray of our own whatever else runs on the machine.
_RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray lowers the priority of its workers by 15; with anything else running they would all but stand still.
    "RAY_worker_niceness": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
#: On GPUs, RAY_ADDRESS may name the cluster of several nodes.
_OWN_RAY = {"RAY_ADDRESS": "local"}
_QUIET = {"HYDRA_FULL_ERROR": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


def execute(
    run: Run,
    settings: dict[str, Any],
    display: Display,
    *,
    runs_after: int = 0,
    seconds_of_others: float | None = None,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Train, or continue a training that died; do nothing for a run that is finished.

    Args:
        run: the run.
        settings: its complete settings.
        display: where progress is shown.
        runs_after: runs that follow, for the time left.
        seconds_of_others: what a finished run of the same kind took, for the time left.
        command: what to execute instead of the run's own command line; it gets `metrics_override` as its last argument,
            too.

    Returns:
        What ``done.json`` holds.

    Raises:
        ExperimentError: the folder belongs to other settings, another command is in it, or processes of one that was
            killed still train there.
        RunFailedError: the training ended without its last evaluation; the folder stays, to be continued.
    """
    folder = RunFolder(run.folder)
    folder.check(run, settings)
    record = folder.done
    if record is not None:
        return record
    with locked(folder.path):
        _refuse_orphans(run)
        folder.begin(run, settings)
        # Another command may have finished it before this one had the lock.
        record = folder.done
        if record is None:
            _attempt(run, folder, command or run.command(), _Watch(run, display, runs_after, seconds_of_others))
            record = {
                **run.identity(),
                "seconds": folder.seconds(),
                "attempts": len(folder.attempts()),
                "finished": _now(),
                "command": run.shell_command(),
                "versions": machine.versions(),
                "commit": machine.git_commit(),
                "hardware": machine.hardware(),
            }
            folder.finish(record)
    return record


class _Watch:
    """Follows the metrics of an attempt and shows them."""

    def __init__(self, run: Run, display: Display, runs_after: int, seconds_of_others: float | None) -> None:
        self._progress = RunProgress(run.steps, time.monotonic())
        self._display = display
        self._others = (runs_after, seconds_of_others)

    def look(self, tail: MetricsTail) -> None:
        """Read what is new and show it."""
        now = time.monotonic()
        news = False
        for step, metrics in tail.new_records():
            self._progress.update(step, metrics, now)
            news = True
        self._display.show(self._progress.line(now, *self._others), news)

    def say_that_it_ends(self) -> None:
        """Explain the wait, if anybody still reads it: the terminal may be why the run ends."""
        with suppress(OSError):
            self._display.close("ending the run's processes (a few seconds) ...")


def _attempt(run: Run, folder: RunFolder, command: Sequence[str], watch: _Watch) -> None:
    environment = {
        # A shell that was set up for the CPU path names its platform.
        **{name: value for name, value in os.environ.items() if name != PLATFORM_VARIABLE},
        **run.environment,
        **_RAY_ENVIRONMENT,
        **(_OWN_RAY if run.on_cpu else {}),
        **_QUIET,
        processes.MARK: str(run.folder),
    }
    started, began = time.monotonic(), _now()
    attempt = folder.begin_attempt(began)
    tail = MetricsTail(folder.metrics(attempt))
    with folder.log.open("ab") as log:
        log.write(f"=== attempt {attempt}, {began}: {run.shell_command()}\n".encode())
        log.flush()
        offset = log.tell()
        process = subprocess.Popen(
            [*command, metrics_override(folder.metrics(attempt))],
            stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=run.folder,
            env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None:
                watch.look(tail)
                time.sleep(POLL_SECONDS)
            watch.look(tail)
        finally:
            try:
                if process.poll() is None:
                    watch.say_that_it_ends()
            finally:
                processes.stop(process, run.folder)
            folder.end_attempt(attempt, round(time.monotonic() - started, 3), process.returncode)
    _check_result(run, folder, process.returncode, offset)


def _check_result(run: Run, folder: RunFolder, exit_code: int, offset: int) -> None:
    metrics = merge_attempts(folder.metrics(number) for number in folder.attempts())
    if exit_code != 0:
        how = f"{_how_it_ended(exit_code)} {_how_far(metrics, run)}"
        raise RunFailedError(f"{run.name} {how}", error_lines(folder.log, offset), folder.log)
    if not math.isfinite(metrics.get(run.steps, {}).get("val/success", math.nan)):
        raise RunFailedError(
            f"{run.name} ended without an evaluation at step {run.steps} {_how_far(metrics, run)}; if the log "
            "does not say why, look at overrides of trainer.test_freq and trainer.total_epochs",
            error_lines(folder.log, offset),
            folder.log,
        )


def _how_it_ended(exit_code: int) -> str:
    if exit_code >= 0:
        return f"failed with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    hint = ", most likely for lack of memory" if -exit_code == signal.SIGKILL else ""
    return f"was ended by signal {name}{hint}"


def _how_far(metrics: dict[int, Metrics], run: Run) -> str:
    return f"(after step {max(metrics)} of {run.steps})" if metrics else "(before its first evaluation)"


def _refuse_orphans(run: Run) -> None:
    """A command that is killed leaves its processes behind."""
    running = processes.processes_of(run.folder)
    if running:
        raise ExperimentError(
            f"{run.folder} is in use: process {running[0].pid} is still training there; wait for it or end it"
        )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
