"""The processes of a run: found by a mark in their environment, so that none is left behind and none of others' is hit.

veRL starts Ray, and Ray's daemons and workers leave the process group they were started in. What all of them inherit is
the environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

#: Environment variable that names the folder of the run that a process belongs to.
MARK = "ACTFOCUS_RUN_FOLDER"
#: Seconds that processes get to end by themselves before they are killed.
PATIENCE_SECONDS = 10.0
#: Age in seconds from which on a process's environment is its own.
_SETTLED_SECONDS = 10.0
#: Signals that ask a command to end.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def processes_of(
    folder: Path, others: set[psutil.Process] | None = None, *, below: bool = False
) -> list[psutil.Process]:
    """Return the running processes that belong to a run.

    Args:
        folder: the run's folder.
        others: processes that are known to belong to somebody else, and are not looked at; receives those found. For
            whoever asks again and again: a machine may have thousands.
        below: whether those of runs in folders below count, too.
    """
    others = set() if others is None else others
    found = []
    for process in psutil.process_iter():
        if process in others:
            continue
        try:
            mark = process.environ().get(MARK, "")
            if mark != str(folder) and not (below and Path(mark).is_relative_to(folder)):
                # Until it executes its program a new process has the environment of the one that starts it.
                if time.time() - process.create_time() > _SETTLED_SECONDS:
                    others.add(process)
            elif process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.AccessDenied:
            others.add(process)
        except psutil.NoSuchProcess:
            continue  # it ended meanwhile
    return [process for process in found if process.pid != os.getpid()]


def share_priority(process: subprocess.Popen[bytes]) -> None:
    """Give a process that leads a new session the share of the processor that this session has.

    Linux divides the processor between sessions first (autogroups), and a new one begins with the usual share: a grid
    at low priority would train at the usual one. Where the kernel does not, there is nothing to do.
    """
    with suppress(OSError):
        nice = Path("/proc/self/autogroup").read_text().rpartition("nice")[2].strip()
        if nice != "0":
            Path(f"/proc/{process.pid}/autogroup").write_text(nice)


def stop(process: subprocess.Popen[bytes], folder: Path) -> None:
    """End a run and everything it started; neither Ctrl-C nor the signals of batch systems can interrupt this.

    Args:
        process: the leader of the run's process group; it may have ended.
        folder: the run's folder.
    """
    with _uninterrupted():
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _sweep(folder)


def _sweep(folder: Path) -> None:
    """Give what a run has left behind time to end, then kill it."""
    _, alive = psutil.wait_procs(processes_of(folder), timeout=PATIENCE_SECONDS)
    while alive:
        for process in alive:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(alive, timeout=PATIENCE_SECONDS)
        # A daemon may have started another worker meanwhile.
        alive = processes_of(folder)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
