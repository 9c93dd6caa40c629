"""Notices when a run has lost a process or stands still, which veRL waits for without end.

veRL's workers also talk over sockets of TransferQueue: whoever waits there for a process that was killed waits for
ever, and the run's own command sees nothing but a trainer that lives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from verl_actfocus.experiments.execution.processes import processes_of
from verl_actfocus.experiments.execution.progress import duration

#: Seconds between two looks at who is there.
LOOK_SECONDS = 1.0
#: Seconds that a worker has to be gone, while the run goes on, to be dead: when a trainer ends, its workers go first.
GONE_SECONDS = 5.0
#: Seconds over which the work of a process is measured.
WORK_SECONDS = 5.0
#: Seconds without progress that a run gets which has lost a process.
LOST_SECONDS = 120.0
#: Seconds without progress that any run gets.
STILL_SECONDS = 900.0
#: CPU seconds a second below which a process does nothing but wait, if it gets a core when it wants one; idle workers
#: of Ray's take up to 0.02.
IDLE_CORES = 0.1
#: Ray writes what an actor is doing where a command line stands.
_WORKER = "ray::"
_SPARE = "IDLE"
#: What a worker is called whose name is not known.
_SOME = "a worker"
#: Ray's own daemons never rest, and their time says nothing about the run.
_DAEMONS = ("/ray/core/", "/ray/dashboard/", "/ray/_private/", "/ray/autoscaler/")


@dataclass(frozen=True)
class Seen:
    """A process at one look: its command line's first word and its CPU seconds so far."""

    title: str
    cpu_seconds: float


#: Process → what was seen of it.
Census = Mapping[psutil.Process, Seen]


def census(folder: Path, others: set[psutil.Process] | None = None) -> Census:
    """Return the processes of a run on this machine, without Ray's daemons; arguments as of `processes_of`."""
    seen = {}
    for process in processes_of(folder, others):
        try:
            words, times = process.cmdline(), process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # it ended meanwhile
        if words and not any(part in word for word in words[:3] for part in _DAEMONS):
            seen[process] = Seen(words[0], times.user + times.system)
    return seen


def core_share() -> float:
    """Return how much of a core a process gets that wants one: below 1 where more processes run than cores."""
    return min(1.0, (psutil.cpu_count() or 1) / max(psutil.getloadavg()[0], 1.0))


class Watchdog:
    """Watches one attempt of a run.

    It takes a look only where it has seen workers: those of a cluster that was started elsewhere do not carry the run's
    mark, and may run on other machines.

    Args:
        look: returns the run's processes.
        now: time in seconds.
        told: returns the workers, by process number, that Ray has said to be dead since the last call.
        core_share: returns what its namesake returns.
    """

    def __init__(
        self,
        look: Callable[[], Census],
        now: float,
        told: Callable[[], list[int]],
        core_share: Callable[[], float] = core_share,
    ) -> None:
        self._look, self._told, self._core_share = look, told, core_share
        self._before: Census = {}
        self._measured: Census = {}
        self._looked = self._measured_at = self._moved = now
        #: Process numbers of workers that are there no more → what they were, and since when they are gone.
        self._gone: dict[int, tuple[str, float]] = {}
        self._lost: dict[int, str] = {}
        #: Process number → the last name that was seen of it, if it was a worker's.
        self._names: dict[int, str] = {}

    def look(self, now: float, progressed: bool) -> list[str]:
        """Look at the processes if it is time to.

        Args:
            now: time in seconds.
            progressed: whether there were new metrics since the last call.

        Returns:
            The workers that were found dead, in words, each of them once.
        """
        if progressed:
            # A step that needed the dead no more tells nothing of the next one, so they stay lost.
            self._moved = now
        if now - self._looked < LOOK_SECONDS:
            return []
        seen = self._look()
        if now - self._measured_at >= WORK_SECONDS:
            self._measure(seen, now)
        self._names |= {one.pid: _name(it) for one, it in seen.items() if it.title.startswith(_WORKER)}
        # Ray tells of deaths that no look shows: of a worker that was never seen under its name, or that was there a
        # moment ago.
        told = {number: self._names.get(number, _SPARE) for number in self._told()}
        gone = {number: _SOME if name == _SPARE else name for number, name in told.items()} | _left(self._before, seen)
        new = {number: (name, now) for number, name in gone.items() if number not in self._lost}
        self._gone = new | self._gone
        dead = {number: name for number, (name, since) in self._gone.items() if now - since >= GONE_SECONDS}
        self._gone = {number: one for number, one in self._gone.items() if number not in dead}
        self._lost |= dead
        self._before, self._looked = seen, now
        return _in_words(dead)

    def _measure(self, seen: Census, now: float) -> None:
        """Find out whether any process has worked since the last time."""
        spent = [seen[one].cpu_seconds - old.cpu_seconds for one, old in self._measured.items() if one in seen]
        # A run that others leave no core is not one that stands still.
        if max(spent, default=0.0) > IDLE_CORES * self._core_share() * (now - self._measured_at):
            self._moved = now
        self._measured, self._measured_at = seen, now

    def verdict(self, now: float) -> str | None:
        """Say why the run must be ended, in words; None if it may go on.

        Args:
            now: time in seconds.
        """
        still = now - self._moved
        if not self._names or still < (LOST_SECONDS if self._lost else STILL_SECONDS):
            return None
        how = f"for {duration(still)} there were no new metrics and its processes did nothing but wait"
        return f"{how}, after the death of {', '.join(_in_words(self._lost))}" if self._lost else how


def _left(before: Census, seen: Census) -> dict[int, str]:
    """Return the workers that are there no more; Ray ends spare ones as it likes."""
    return {
        one.pid: _name(old)
        for one, old in before.items()
        if one not in seen and old.title.startswith(_WORKER) and _name(old) != _SPARE
    }


def _name(worker: Seen) -> str:
    return worker.title.removeprefix(_WORKER)


def _in_words(workers: Mapping[int, str]) -> list[str]:
    return [f"{name} (process {number})" for number, name in workers.items()]
