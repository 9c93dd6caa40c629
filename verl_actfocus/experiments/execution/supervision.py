"""A training command: started, watched while it lasts, and ended with everything that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from verl_actfocus.experiments.execution import processes, temporary
from verl_actfocus.experiments.execution.logs import DeathNotices, last_lines
from verl_actfocus.experiments.execution.progress import Display, RunProgress, duration
from verl_actfocus.experiments.execution.watchdog import LOST_SECONDS, Watchdog, census
from verl_actfocus.experiments.results.metrics import MetricsTail
from verl_actfocus.experiments.runs.run import PLATFORM_VARIABLE
from verl_actfocus.storage.disk import writing
from verl_actfocus.storage.errors import ExperimentError

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


class Watch:
    """Follows the metrics of a training and shows how far it is.

    Args:
        metrics: the file of the metrics; it may not exist yet.
        steps: training steps of the run.
        display: where progress is shown.
        runs_after: runs that follow, for the time left.
        seconds_of_others: what a finished run of the same kind took, for the time left.
    """

    def __init__(
        self,
        metrics: Path,
        steps: int,
        display: Display,
        *,
        runs_after: int = 0,
        seconds_of_others: float | None = None,
    ) -> None:
        self._tail = MetricsTail(metrics)
        self._progress = RunProgress(steps, time.monotonic())
        self._display = display
        self._others = (runs_after, seconds_of_others)

    def look(self, now: float) -> bool:
        """Read what is new and show it; return whether there was anything."""
        news = False
        for step, metrics in self._tail.new_records():
            self._progress.update(step, metrics, now)
            news = True
        self._display.show(self._progress.line(now, *self._others), news)
        return news

    def say_what_died(self, workers: Sequence[str]) -> None:
        """Name dead workers, unless the training is over: then they are meant to end."""
        if workers and self._progress.step != self._progress.steps:
            deadline = f"the run is ended in {duration(LOST_SECONDS)} unless it goes on"
            self._display.close(f"died: {', '.join(workers)}; {deadline}")

    def say_that_it_ends(self) -> None:
        """Explain the wait, if anybody still reads it: the terminal may be why the run ends."""
        with suppress(OSError):
            self._display.close("ending the run's processes (a few seconds) ...")


class Training:
    """A command that trains in a folder.

    Args:
        command: with its arguments.
        folder: the run's folder, by which its processes are found.
        log: console output is appended to it.
        variables: environment variables that the run itself needs.
        own_ray: whether it starts a Ray of its own, whatever cluster there is, in a temporary place of its own. On GPUs
            the session of Ray may be that of others, and compiled kernels in the temporary folder serve the next run.
        ray_logs: folder that Ray's own logs go to if such a training fails.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        log: Path,
        variables: Mapping[str, str],
        *,
        own_ray: bool,
        ray_logs: Path,
    ) -> None:
        self._command, self._folder, self._log = list(command), folder, log
        self._variables, self._own_ray, self._ray_logs = variables, own_ray, ray_logs
        #: Exit code of the command; None until it has ended.
        self.exit_code: int | None = None
        #: The last lines of its output, before it was ended.
        self.last_lines: list[str] = []

    def run(self, watch: Watch) -> str | None:
        """Train to the end; whatever happens, no process of the run is left.

        Args:
            watch: shown what becomes of it.

        Returns:
            Why the command was ended; None if it has ended by itself.

        Raises:
            ExperimentError: the disk is full.
        """
        place = temporary.claim(self._folder) if self._own_ray else None
        process: subprocess.Popen[bytes] | None = None
        standstill: str | None = None
        try:
            # Without a buffer, which a full disk would make fail once more when the file is closed.
            with writing(self._log), self._log.open("ab", buffering=0) as log:
                offset = log.tell()
                process = subprocess.Popen(
                    self._command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                    env=self._environment(place), start_new_session=True,
                )  # fmt: skip
            processes.share_priority(process)
            look, told = partial(census, self._folder, set()), DeathNotices(self._log, offset).new
            watchdog = Watchdog(look, time.monotonic(), told)
            while process.poll() is None and standstill is None:
                now = time.monotonic()
                watch.say_what_died(watchdog.look(now, watch.look(now)))
                standstill = watchdog.verdict(now)
                time.sleep(POLL_SECONDS)
            watch.look(time.monotonic())
            self.last_lines = last_lines(self._log, offset)
        finally:
            self._end(process, watch, place, stood_still=standstill is not None)
        return standstill

    def _end(
        self, process: subprocess.Popen[bytes] | None, watch: Watch, place: Path | None, *, stood_still: bool
    ) -> None:
        # One that is ended for standing still is still alive here.
        failed = process is None or bool(process.poll()) or stood_still
        try:
            if process is not None and process.poll() is None:
                watch.say_that_it_ends()
        finally:
            if process is not None:
                processes.stop(process, self._folder)
                self.exit_code = process.returncode
            if place is not None:
                temporary.release(place, self._ray_logs, keep_logs=failed)

    def _environment(self, place: Path | None) -> dict[str, str]:
        """Return this process's own, Ray's settings, and the mark of the run; temporary files go to `place`."""
        return {
            # A shell that was set up for the CPU path names its platform.
            **{name: value for name, value in os.environ.items() if name != PLATFORM_VARIABLE},
            **self._variables,
            **_RAY_ENVIRONMENT,
            **(_OWN_RAY if self._own_ray else {}),
            **_QUIET,
            **({} if place is None else {"TMPDIR": str(place)}),
            processes.MARK: str(self._folder),
        }


def refuse_orphans(folder: Path) -> None:
    """Make sure that nobody trains in a folder or below it: a command that is killed leaves its processes behind.

    Raises:
        ExperimentError: processes of such a command still train there.
    """
    running = processes.processes_of(folder, below=True)
    if running:
        raise ExperimentError(
            f"{folder} is in use: process {running[0].pid} is still training there; wait for it or end it"
        )


def how_it_ended(exit_code: int) -> str:
    """Say how a command ended that has failed: with an exit code, or by a signal."""
    if exit_code >= 0:
        return f"failed with exit code {exit_code}"
    hint = ", most likely for lack of memory" if -exit_code == signal.SIGKILL else ""
    return f"was ended by signal {signal.Signals(-exit_code).name}{hint}"
