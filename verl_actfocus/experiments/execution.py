"""Runs a training command to its end: progress while it lasts, an explanation when it fails, nothing left behind."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from verl_actfocus.experiments import machine, processes, temporary
from verl_actfocus.experiments.composed_run import ComposedRun
from verl_actfocus.experiments.disk import full, writing
from verl_actfocus.experiments.errors import ExperimentError, RunFailedError
from verl_actfocus.experiments.folder import RunFolder
from verl_actfocus.experiments.hydra_words import metrics_override
from verl_actfocus.experiments.locks import locked
from verl_actfocus.experiments.logs import DeathNotices, error_lines, last_lines
from verl_actfocus.experiments.metrics import Metrics, MetricsTail, merge_attempts
from verl_actfocus.experiments.own_code import require_unchanged
from verl_actfocus.experiments.progress import Display, RunProgress, duration
from verl_actfocus.experiments.run import PLATFORM_VARIABLE, Run
from verl_actfocus.experiments.watchdog import LOST_SECONDS, Watchdog, census

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
#: On GPUs, and for several nodes, RAY_ADDRESS may name a cluster.
_OWN_RAY = {"RAY_ADDRESS": "local"}
_QUIET = {"HYDRA_FULL_ERROR": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


def execute(
    composed: ComposedRun,
    display: Display,
    *,
    runs_after: int = 0,
    seconds_of_others: float | None = None,
) -> dict[str, Any]:
    """Train, or continue a training that died.

    Args:
        composed: the run.
        display: where progress is shown.
        runs_after: runs that follow, for the time left.
        seconds_of_others: what a finished run of the same kind took, for the time left.

    Returns:
        What `done.json` holds.

    Raises:
        ExperimentError: the folder belongs to other settings, another command is in it, processes of one that was
            killed still train there, or a module of the user's has changed since the run was planned.
        RunFailedError: the training ended without its last evaluation; the folder stays, to be continued.
    """
    run = composed.run
    folder = RunFolder(run.folder)
    with locked(folder.path):
        _refuse_orphans(run)
        require_unchanged(composed.settings, run.title)
        folder.claim(composed)
        # Another command may have finished it before this one had the lock.
        record = folder.done
        if record is None:
            _attempt(composed, folder, _Watch(composed.steps, display, runs_after, seconds_of_others))
            require_unchanged(composed.settings, run.title)
            record = {
                **composed.identity(),
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


def environment_of(folder: Path, variables: Mapping[str, str], *, own_ray: bool, place: Path | None) -> dict[str, str]:
    """Return the environment of a training command: this process's own, Ray's settings, and the mark of the run.

    Args:
        folder: the run's folder, by which its processes are found.
        variables: what the run itself needs.
        own_ray: whether it starts a Ray of its own whatever cluster there is.
        place: where its temporary files go (`verl_actfocus.experiments.temporary`); None for the system's place.
    """
    return {
        # A shell that was set up for the CPU path names its platform.
        **{name: value for name, value in os.environ.items() if name != PLATFORM_VARIABLE},
        **variables,
        **_RAY_ENVIRONMENT,
        **(_OWN_RAY if own_ray else {}),
        **_QUIET,
        **({} if place is None else {"TMPDIR": str(place)}),
        processes.MARK: str(folder),
    }


class _Watch:
    """Follows the metrics of an attempt and shows them."""

    def __init__(self, steps: int, display: Display, runs_after: int, seconds_of_others: float | None) -> None:
        self._progress = RunProgress(steps, time.monotonic())
        self._display = display
        self._others = (runs_after, seconds_of_others)

    def look(self, tail: MetricsTail) -> bool:
        """Read what is new and show it; return whether there was anything."""
        now = time.monotonic()
        news = False
        for step, metrics in tail.new_records():
            self._progress.update(step, metrics, now)
            news = True
        self._display.show(self._progress.line(now, *self._others), news)
        return news

    def say_what_died(self, workers: list[str]) -> None:
        """Name dead workers, unless the training is over: then they are meant to end."""
        if workers and self._progress.step != self._progress.steps:
            deadline = f"the run is ended in {duration(LOST_SECONDS)} unless it goes on"
            self._display.close(f"died: {', '.join(workers)}; {deadline}")

    def say_that_it_ends(self) -> None:
        """Explain the wait, if anybody still reads it: the terminal may be why the run ends."""
        with suppress(OSError):
            self._display.close("ending the run's processes (a few seconds) ...")


def _attempt(composed: ComposedRun, folder: RunFolder, watch: _Watch) -> None:
    run = composed.run
    # On GPUs the session of Ray may be that of others, and compiled kernels in the temporary folder serve the next run.
    own_ray = run.conditions.small and composed.nodes == 1
    place = temporary.claim(folder.path) if own_ray else None
    environment = environment_of(run.folder, run.environment, own_ray=own_ray, place=place)
    started, began = time.monotonic(), _now()
    attempt = folder.begin_attempt(began)
    tail = MetricsTail(folder.metrics(attempt))
    # Without a buffer, which a full disk would make fail once more when the file is closed.
    with folder.log.open("ab", buffering=0) as log:
        with writing(folder.log):
            log.write(f"=== attempt {attempt}, {began}: {run.shell_command()}\n".encode())
        offset = log.tell()
        process = subprocess.Popen(
            [*run.command(), metrics_override(folder.metrics(attempt))],
            stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment, start_new_session=True,
        )  # fmt: skip
        processes.share_priority(process)
        look, told = partial(census, run.folder, set()), DeathNotices(folder.log, offset).new
        watchdog, standstill = Watchdog(look, time.monotonic(), told), None
        try:
            while process.poll() is None and standstill is None:
                now, news = time.monotonic(), watch.look(tail)
                watch.say_what_died(watchdog.look(now, news))
                standstill = watchdog.verdict(now)
                time.sleep(POLL_SECONDS)
            watch.look(tail)
            last = last_lines(folder.log, offset)
        finally:
            # One that is ended for standing still is still alive here.
            failed = bool(process.poll()) or standstill is not None
            try:
                if process.poll() is None:
                    watch.say_that_it_ends()
            finally:
                processes.stop(process, run.folder)
                if place is not None:
                    temporary.release(place, folder.ray_logs, keep_logs=failed)
            # A full disk, say, must not hide how the run ended; an attempt without an end counts as a killed one.
            with suppress(ExperimentError):
                folder.end_attempt(attempt, round(time.monotonic() - started, 3), process.returncode)
    if standstill is not None:
        raise RunFailedError(
            f"{run.title} was ended: {standstill} ({_how_far(composed, folder)}); last in the log:", last, folder.log
        )
    _check_result(composed, folder, process.returncode, offset)


def _check_result(composed: ComposedRun, folder: RunFolder, exit_code: int, offset: int) -> None:
    metrics = _metrics(folder)
    if exit_code == 0 and math.isfinite(metrics.get(composed.steps, {}).get("val/success", math.nan)):
        return
    how = _how_it_ended(exit_code) if exit_code else f"ended without an evaluation at step {composed.steps}"
    errors = error_lines(folder.log, offset)
    look: str | None = "if the log does not say why, look at trainer.test_freq and trainer.total_epochs"
    if exit_code:
        look = full(folder.path, errors)
    reason = f"{composed.run.title} {how} ({_how_far(composed, folder)})"
    raise RunFailedError("; ".join(filter(None, (reason, look))), errors, folder.log)


def _how_far(composed: ComposedRun, folder: RunFolder) -> str:
    metrics = _metrics(folder)
    return f"after step {max(metrics)} of {composed.steps}" if metrics else "before its first evaluation"


def _metrics(folder: RunFolder) -> dict[int, Metrics]:
    return merge_attempts(folder.metrics(number) for number in folder.attempts())


def _how_it_ended(exit_code: int) -> str:
    if exit_code >= 0:
        return f"failed with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    hint = ", most likely for lack of memory" if -exit_code == signal.SIGKILL else ""
    return f"was ended by signal {name}{hint}"


def _refuse_orphans(run: Run) -> None:
    """A command that is killed leaves its processes behind."""
    running = processes.processes_of(run.folder)
    if running:
        raise ExperimentError(
            f"{run.folder} is in use: process {running[0].pid} is still training there; wait for it or end it"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
