"""Progress of a run on the terminal: where it stands, how well it does, how long it will take."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

from verl_actfocus.experiments.results.metrics import Metrics

#: What a run does until it has metrics, in words.
START_UP = "starting veRL and Ray (usually 40-60 s), then the first evaluation or step"
#: Without a terminal, seconds of silence after which a line says that the run is alive.
HEARTBEAT_SECONDS = 60.0


class RunProgress:
    """What the metrics of one attempt say so far.

    Args:
        steps: training steps of the run.
        started: time at which the attempt began, in seconds.
    """

    def __init__(self, steps: int, started: float) -> None:
        self.steps = steps
        self.started = started
        #: Latest step with metrics; None until the first evaluation or step is over.
        self.step: int | None = None
        #: Success rate of the latest training step's rollouts.
        self.training_success: float | None = None
        #: Step, success rate and standard error of the latest evaluation; a single task has no standard error.
        self.evaluation: tuple[int, float, float | None] | None = None
        self._first: tuple[int, float] | None = None
        self._latest: tuple[int, float] | None = None

    def update(self, step: int, metrics: Metrics, now: float) -> None:
        """Take the metrics of a step, read at time `now` in seconds."""
        self.step = step
        self.training_success = metrics.get("rollout/success", self.training_success)
        if "val/success" in metrics:
            self.evaluation = (step, metrics["val/success"], metrics.get("val/success_standard_error"))
        self._first = self._first or (step, now)
        self._latest = (step, now)

    @property
    def seconds_per_step(self) -> float | None:
        """Mean wall time of a step in seconds, evaluations and checkpoints included; None before a step is over."""
        if self._first is None or self._latest is None or self._latest[0] == self._first[0]:
            return None
        return (self._latest[1] - self._first[1]) / (self._latest[0] - self._first[0])

    def seconds_left(self, now: float) -> float | None:
        """Expected wall time until the run ends, in seconds; None before a step is over."""
        rate = self.seconds_per_step
        if rate is None or self._latest is None:
            return None
        step, seen = self._latest
        return max(0.0, rate * (self.steps - step) - (now - seen))

    def seconds_in_all(self) -> float | None:
        """Expected wall time of such a run from its start to its end, in seconds; None before a step is over."""
        rate = self.seconds_per_step
        if rate is None or self._first is None:
            return None
        return self._first[1] - self.started + rate * self.steps

    def line(self, now: float, runs_after: int = 0, seconds_of_others: float | None = None) -> str:
        """Describe the progress in a line.

        Args:
            now: time in seconds.
            runs_after: runs that follow this one.
            seconds_of_others: what a finished run took; None takes this run's own pace.
        """
        if self.step is None:
            return f"{START_UP} ... {now - self.started:.0f} s"
        parts = [f"step {self.step}/{self.steps}"]
        if self.training_success is not None:
            parts.append(f"training success {self.training_success:.1%}")
        if self.evaluation is not None:
            step, success, error = self.evaluation
            scatter = "" if error is None else f" ± {error:.1%}"
            parts.append(f"evaluation {success:.1%}{scatter} (step {step})")
        if self.seconds_per_step is not None:
            parts.append(f"{self.seconds_per_step:.1f} s/step")
        parts.append(self._time_left(now, runs_after, seconds_of_others))
        return " | ".join(parts)

    def _time_left(self, now: float, runs_after: int, seconds_of_others: float | None) -> str:
        # A run resumed at its last step has no pace of its own.
        left = 0.0 if self.step == self.steps else self.seconds_left(now)
        if left is None:
            return "time left: known after the next step"
        if runs_after == 0:
            return f"{duration(left)} left"
        each = seconds_of_others or self.seconds_in_all() or 0.0
        return f"{duration(left)} left, {duration(left + runs_after * each)} overall"


class Display:
    """Writes progress: one line that changes on a terminal, plain lines elsewhere.

    Args:
        prefix: what stands before every line, such as `[1/4] grpo uniform seed 0`.
        stream: where to write; None for the standard output.
        clock: returns the time in seconds.
    """

    def __init__(self, prefix: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._prefix = prefix
        self._stream = stream or sys.stdout
        self._clock = clock
        self._interactive = self._stream.isatty()
        self._written_at: float | None = None

    def show(self, line: str, news: bool) -> None:
        """Show a line.

        Args:
            line: the state of the run.
            news: whether the run has moved since the last call. Without a terminal, only news are written, and a sign
                of life after a minute of silence.
        """
        text = f"{self._prefix}  {line}"
        if self._interactive:
            columns = shutil.get_terminal_size().columns
            self._stream.write("\r\x1b[K" + text[: columns - 1])
        elif news or self._silent():
            self._stream.write(text + "\n")
            self._written_at = self._clock()
        self._stream.flush()

    def close(self, line: str) -> None:
        """Write a line that stays, such as the last one of the run."""
        start = "\r\x1b[K" if self._interactive else ""
        self._stream.write(f"{start}{self._prefix}  {line}\n")
        self._stream.flush()

    def _silent(self) -> bool:
        return self._written_at is None or self._clock() - self._written_at >= HEARTBEAT_SECONDS


def duration(seconds: float) -> str:
    """Write a duration for people.

    Example:
        >>> duration(75), duration(3700), duration(8.2)
        ('1 min 15 s', '1 h 02 min', '8 s')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
