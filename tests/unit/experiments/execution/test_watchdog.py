"""A run that lost a worker, or stands still, is ended with a sentence; one that computes is not."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from verl_actfocus.experiments.execution import watchdog
from verl_actfocus.experiments.execution.processes import MARK
from verl_actfocus.experiments.execution.progress import Display
from verl_actfocus.experiments.execution.watchdog import (
    GONE_SECONDS,
    LOOK_SECONDS,
    LOST_SECONDS,
    STILL_SECONDS,
    WORK_SECONDS,
    Seen,
    Watchdog,
    census,
)
from verl_actfocus.storage.errors import RunFailedError

from ..standin import make, train


class Machine:
    """Processes that spend so much CPU time a second."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        self.titles = dict(zip(processes, ("python", "ray::WorkerDict.update", "ray::SimpleStorageUnit"), strict=True))
        self.now, self.cores, self.share = 0.0, 0.01, 1.0
        self.told: list[int] = []
        self.dog = Watchdog(self.seen, 0.0, lambda: self.told, lambda: self.share)

    def seen(self) -> dict[psutil.Process, Seen]:
        return {process: Seen(title, self.cores * self.now) for process, title in self.titles.items()}

    def run(self, seconds: float, progressed: bool = False) -> list[str]:
        """Look as often as a watchdog looks; return who was found dead."""
        dead, until = [], self.now + seconds
        while self.now < until:
            self.now += LOOK_SECONDS
            dead += self.dog.look(self.now, progressed)
        return dead

    def lose(self, title: str) -> int:
        process = next(process for process, has in self.titles.items() if has == title)
        del self.titles[process]
        return process.pid


@pytest.fixture
def machine() -> Iterator[Machine]:
    started = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]
    yield Machine([psutil.Process(one.pid) for one in started])
    for one in started:
        one.kill()
        one.wait()


def test_a_dead_worker_is_named_and_the_run_ends_if_it_does_not_go_on(machine: Machine) -> None:
    assert machine.run(60) == []
    pid = machine.lose("ray::SimpleStorageUnit")
    assert machine.run(2 * GONE_SECONDS) == [f"SimpleStorageUnit (process {pid})"]
    assert machine.run(LOST_SECONDS) == []
    verdict = machine.dog.verdict(machine.now)
    assert verdict is not None and f"after the death of SimpleStorageUnit (process {pid})" in verdict


def test_a_worker_that_dies_seconds_after_it_got_its_name_is_named(machine: Machine) -> None:
    process = next(iter(machine.titles))
    machine.titles[process] = "ray::IDLE"
    machine.run(60)
    machine.titles[process] = "ray::AgentLoopWorkerTQ"
    machine.run(1)
    machine.lose("ray::AgentLoopWorkerTQ")
    assert machine.run(2 * GONE_SECONDS) == [f"AgentLoopWorkerTQ (process {process.pid})"]


def test_a_worker_that_was_never_seen_under_its_name_is_known_from_ray_and_each_is_named_once(machine: Machine) -> None:
    machine.run(60)
    machine.told = [4711, machine.lose("ray::SimpleStorageUnit")]
    named = machine.run(60)
    assert named == ["a worker (process 4711)", f"SimpleStorageUnit (process {machine.told[1]})"]
    machine.run(LOST_SECONDS)
    assert str(machine.dog.verdict(machine.now)).endswith(f"after the death of {', '.join(named)}")


def test_a_worker_of_whose_death_ray_tells_before_a_look_shows_it_has_its_name(machine: Machine) -> None:
    machine.run(60)
    pid = next(process.pid for process, title in machine.titles.items() if title == "ray::SimpleStorageUnit")
    machine.told = [pid]
    machine.run(LOOK_SECONDS)
    machine.told = []
    machine.lose("ray::SimpleStorageUnit")
    assert machine.run(60) == [f"SimpleStorageUnit (process {pid})"]


def test_a_step_that_ends_without_a_dead_worker_does_not_bring_it_back(machine: Machine) -> None:
    machine.run(60)
    pid = machine.lose("ray::WorkerDict.update")
    machine.run(2 * GONE_SECONDS)
    machine.run(WORK_SECONDS, progressed=True)
    machine.run(LOST_SECONDS)
    assert f"after the death of WorkerDict.update (process {pid})" in str(machine.dog.verdict(machine.now))


def test_a_run_that_goes_on_without_a_worker_is_left_alone(machine: Machine) -> None:
    machine.run(60)
    machine.lose("ray::SimpleStorageUnit")
    machine.cores = 0.9
    assert len(machine.run(10 * STILL_SECONDS)) == 1
    assert machine.dog.verdict(machine.now) is None


def test_a_run_that_only_waits_is_ended_and_metrics_or_work_begin_the_time_anew(machine: Machine) -> None:
    machine.run(STILL_SECONDS - 10)
    machine.run(WORK_SECONDS, progressed=True)
    machine.run(STILL_SECONDS - 10)
    assert machine.dog.verdict(machine.now) is None
    machine.run(10)
    assert "for 15 min 00 s there were no new metrics" in str(machine.dog.verdict(machine.now))


def test_a_run_that_others_leave_no_core_does_not_stand_still(machine: Machine) -> None:
    machine.run(60)
    machine.lose("ray::SimpleStorageUnit")
    machine.cores, machine.share = 0.05, 2 / 24
    machine.run(3 * STILL_SECONDS)
    assert machine.dog.verdict(machine.now) is None
    assert 0 < watchdog.core_share() <= 1


def test_workers_that_leave_with_the_run_and_spare_ones_are_no_deaths(machine: Machine) -> None:
    machine.titles = dict.fromkeys(machine.titles, "ray::IDLE")
    machine.run(60)
    machine.titles = {}
    assert machine.run(60) == []


def test_a_run_on_the_workers_of_another_cluster_is_never_ended(machine: Machine) -> None:
    machine.titles = dict.fromkeys(machine.titles, "python")
    machine.run(3 * STILL_SECONDS)
    assert machine.dog.verdict(machine.now) is None


def test_the_daemons_of_ray_do_not_count_as_work(tmp_path: Path) -> None:
    mark = {**os.environ, MARK: str(tmp_path)}
    names = ("ray::A", "/x/ray/core/src/ray/raylet/raylet")
    started = [subprocess.Popen(["bash", "-c", f"exec -a {name} sleep 60"], env=mark) for name in names]
    try:
        until = time.monotonic() + 10
        while "ray::A" not in (titles := {seen.title for seen in census(tmp_path).values()}) or "bash" in titles:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert titles == {"ray::A"}
    finally:
        for one in started:
            one.kill()
            one.wait()


#: A trainer that waits for ever, with a worker as Ray's: its title in the place of its command line.
WAITING = """
import subprocess, time
worker = subprocess.Popen(["bash", "-c", "exec -a ray::SimpleStorageUnit.get sleep 60"], start_new_session=True)
print("worker", worker.pid, flush=True)
print("waiting for TransferQueue", flush=True)
time.sleep(60)
"""


class Killing(Display):
    """Kills the worker once the watchdog has seen it."""

    def __init__(self, log: Path) -> None:
        self.stream = io.StringIO()
        super().__init__("run", self.stream)
        self._log, self._kill_at = log, 0.0

    def show(self, line: str, news: bool) -> None:
        started = re.search(r"^worker (\d+)$", self._log.read_text(), re.MULTILINE)
        if started and not self._kill_at:
            self._kill_at = time.monotonic() + 1
        if started and 0 < self._kill_at < time.monotonic():
            self._kill_at = float("inf")
            os.kill(int(started[1]), signal.SIGKILL)


@pytest.mark.usefixtures("quick")
def test_a_run_whose_worker_is_killed_ends_within_the_time_and_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOOK_SECONDS", "GONE_SECONDS", "WORK_SECONDS"):
        monkeypatch.setattr(watchdog, name, 0.1)
    monkeypatch.setattr(watchdog, "LOST_SECONDS", 2.0)
    run = make(tmp_path / "r")
    display = Killing(run.folder / "log.txt")
    with pytest.raises(RunFailedError) as error:
        train(run, WAITING, display=display)
    assert "died: SimpleStorageUnit.get (process" in display.stream.getvalue()
    # 2 s, or more where others leave the watchdog no core.
    assert re.search(r"was ended: for \d+ s there were no new metrics", str(error.value))
    assert "after the death of SimpleStorageUnit.get" in str(error.value)
    assert "(before its first evaluation)" in str(error.value)
    assert "last in the log:\n  worker" in str(error.value) and "\n  waiting for TransferQueue" in str(error.value)
