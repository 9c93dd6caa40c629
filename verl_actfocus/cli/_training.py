"""What the subcommands that train have in common."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType

from verl_actfocus.experiments.machine import free_memory
from verl_actfocus.experiments.requirements import require_gpu
from verl_actfocus.experiments.runs import Run

#: Free memory below which a warning is printed, in bytes: veRL's processes and a tiny model take about 5 GB.
ENOUGH_MEMORY = 5e9
#: Exit code of a training that failed, as opposed to a request that was refused.
RUN_FAILED = 1
#: Exit code after Ctrl-C: 128 + SIGINT, as shells count.
INTERRUPTED = 130


def require_machine(runs: Sequence[Run]) -> None:
    """Make sure that runs for GPUs have some; say so if runs on this machine's CPU may lack memory.

    Raises:
        ExperimentError: there is no GPU.
    """
    if any(not run.on_cpu for run in runs):
        require_gpu()
        return
    free = free_memory()
    if free < ENOUGH_MEMORY:
        print(
            f"warning: {free / 1e9:.1f} GB of memory are free and a run takes about {ENOUGH_MEMORY / 1e9:.0f} GB; "
            "it may be killed",
            file=sys.stderr,
        )


def end_cleanly() -> None:
    """Let the signals of batch systems and closed terminals end the run's processes too, like Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
