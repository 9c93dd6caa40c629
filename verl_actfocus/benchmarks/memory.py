"""Peak memory of a run: of all its processes together by sampling, of its training worker exactly, from the kernel.

The sum is of proportional set sizes (PSS): a page that processes share counts once, shared among them. The kernel's
high-water mark of the resident set (`VmHWM`) knows the peak of one process between two looks as well, shared pages
counted in full.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from verl_actfocus.experiments.execution.processes import processes_of

#: Seconds between two looks.
LOOK_SECONDS = 1.0
#: What Ray calls the process that holds actor, reference and critic (`verl/single_controller/ray/base.py`).
TRAINING_WORKER = "ray::WorkerDict"
_MEGABYTE = 10**6


@dataclass
class PeakMemory:
    """The largest values seen so far, in bytes."""

    #: Of the sums over the run's processes, proportional set size.
    all_processes: int = 0
    #: Of the training worker, resident set; of the largest one where there are several ranks.
    training_worker: int = 0
    _looked: float = field(default=0.0, repr=False)
    _others: set[psutil.Process] = field(default_factory=set, repr=False)

    def look(self, folder: Path, now: float) -> None:
        """Look at the processes of the run in a folder if it is time to.

        Args:
            folder: the run's folder.
            now: time in seconds.
        """
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        total = 0
        for process in processes_of(folder, self._others):
            try:
                total += process.memory_full_info().pss
                words = process.cmdline()
                if words and words[0].startswith(TRAINING_WORKER):
                    self.training_worker = max(self.training_worker, high_water_mark(process.pid))
            except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
        self.all_processes = max(self.all_processes, total)

    def as_json(self) -> dict[str, Any]:
        """Return both in megabytes (10⁶ bytes)."""
        bytes_of = {"all_processes": self.all_processes, "training_worker": self.training_worker}
        return {name: round(value / _MEGABYTE, 1) for name, value in bytes_of.items()}


def high_water_mark(pid: int) -> int:
    """Return the largest resident set that a process has had, in bytes.

    Raises:
        FileNotFoundError: there is no such process.
    """
    match = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0
