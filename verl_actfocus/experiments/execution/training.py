"""Trains a run in its folder to the end, or continues one that died; what it has come to is written last."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from verl_actfocus.experiments.execution.logs import error_lines
from verl_actfocus.experiments.execution.progress import Display
from verl_actfocus.experiments.execution.supervision import Training, Watch, how_it_ended, refuse_orphans
from verl_actfocus.experiments.results import machine
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.results.metrics import Metrics, merge_attempts
from verl_actfocus.experiments.runs.composed_run import ComposedRun
from verl_actfocus.experiments.runs.hydra_words import metrics_override
from verl_actfocus.experiments.runs.own_code import require_unchanged
from verl_actfocus.storage.disk import full, writing
from verl_actfocus.storage.errors import ExperimentError, RunFailedError
from verl_actfocus.storage.locks import locked


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
        refuse_orphans(run.folder)
        require_unchanged(composed.settings, run.title)
        folder.claim(composed)
        # Another command may have finished it before this one had the lock.
        record = folder.done
        if record is None:
            watch = partial(
                Watch,
                steps=composed.steps,
                display=display,
                runs_after=runs_after,
                seconds_of_others=seconds_of_others,
            )
            _attempt(composed, folder, watch)
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


def _attempt(composed: ComposedRun, folder: RunFolder, watch: Callable[[Path], Watch]) -> None:
    run = composed.run
    started, began = time.monotonic(), _now()
    attempt = folder.begin_attempt(began)
    # Without a buffer, which a full disk would make fail once more when the file is closed.
    with folder.log.open("ab", buffering=0) as log, writing(folder.log):
        log.write(f"=== attempt {attempt}, {began}: {run.shell_command()}\n".encode())
        offset = log.tell()
    training = Training(
        [*run.command(), metrics_override(folder.metrics(attempt))],
        folder.path,
        folder.log,
        run.environment,
        own_ray=run.conditions.small and composed.nodes == 1,
        ray_logs=folder.ray_logs,
    )
    try:
        standstill = training.run(watch(folder.metrics(attempt)))
    finally:
        # A full disk, say, must not hide how the run ended; an attempt without an end counts as a killed one.
        with suppress(ExperimentError):
            folder.end_attempt(attempt, round(time.monotonic() - started, 3), training.exit_code)
    if standstill is not None:
        how = f"{run.title} was ended: {standstill} ({_how_far(composed, folder)}); last in the log:"
        raise RunFailedError(how, training.last_lines, folder.log)
    _check_result(composed, folder, training.exit_code, offset)


def _check_result(composed: ComposedRun, folder: RunFolder, exit_code: int | None, offset: int) -> None:
    metrics = _metrics(folder)
    if exit_code == 0 and math.isfinite(metrics.get(composed.steps, {}).get("val/success", math.nan)):
        return
    how = how_it_ended(exit_code) if exit_code else f"ended without an evaluation at step {composed.steps}"
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
