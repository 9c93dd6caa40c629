"""Real runs that lose a process: veRL often waits for ever, the command says who died, ends, and can go on.

All of them are a command of their own, `pytest -m slow`; the one of which veRL says nothing at all is part of every
run of the tests.
"""

from __future__ import annotations

import io
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from verl_actfocus.experiments.execution import watchdog
from verl_actfocus.experiments.execution.launcher import Failure, launch, plan
from verl_actfocus.experiments.execution.processes import processes_of
from verl_actfocus.experiments.runs.run import Conditions, Run
from verl_actfocus.experiments.runs.weightings import WeightingChoice

from .conftest import TINY

pytestmark = pytest.mark.e2e

#: Settings of `TINY` that a run decides itself, or that are others here.
_TAKEN = ("trainer.total_training_steps", "trainer.resume_mode", "trainer.save_freq")
#: A word of the command line of every kind of process that a run has.
KINDS = (
    "verl.trainer.main_ppo",
    "TaskRunner",
    "WorkerDict",
    "HFServer",
    "AgentLoopWorker",
    "GlobalRequestLoadBalancer",
    "SimpleStorageUnit",
    "TransferQueueController",
    "raylet",
    "gcs_server",
)


Count = Callable[[Path], int]


def _logged(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in folder.glob("metrics-*.jsonl"))


def _begun_checkpoints(folder: Path) -> int:
    return sum(1 for _ in folder.glob("checkpoints/global_step_*/*"))


#: Processes are killed as soon as this number is larger than it was before the attempt; None: at once.
MOMENTS: dict[str, Count | None] = {"start-up": None, "a step": _logged, "a checkpoint": _begun_checkpoints}


def test_a_killed_storage_worker_is_named_and_the_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LOST_SECONDS", 20.0)
    run = _run(tmp_path, steps=3)
    said, failures = _launch_and_kill(run, "SimpleStorageUnit", _logged)
    assert "died: SimpleStorageUnit" in said
    # Whoever talked to it may die of it, and be found dead first.
    assert re.search("after the death of .*SimpleStorageUnit", str(failures[0].error)), str(failures[0].error)
    assert processes_of(run.folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_whatever_is_killed_the_run_ends_says_so_and_is_finished_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """One run that loses a process of each kind in turn, and that the same command takes up every time."""
    monkeypatch.setattr(watchdog, "LOST_SECONDS", 20.0)
    run = _run(tmp_path, steps=2 * len(KINDS))
    for kind in KINDS:
        began = time.monotonic()
        said, failures = _launch_and_kill(run, kind, MOMENTS[moment])
        print(f"{kind} killed in {moment}: {time.monotonic() - began:.0f} s\n{said}")
        assert processes_of(run.folder) == []
        assert time.monotonic() - began < 600
        (failure,) = failures
        assert "failed with exit code" in str(failure.error) or "was ended" in str(failure.error)
    assert launch(plan([run]), io.StringIO()) == []
    assert plan([run])[0].record is not None


def _run(folder: Path, steps: int) -> Run:
    extra = tuple(word for word in TINY if not word.startswith(_TAKEN))
    extra += ("trainer.save_freq=1",)
    conditions = Conditions(profile="cpu_frozenlake", algorithm="grpo", folder=folder, steps=steps, extra=extra)
    (run,) = conditions.runs([WeightingChoice.parse("uniform")], [0])
    return run


def _launch_and_kill(run: Run, kind: str, moment: Count | None) -> tuple[str, list[Failure]]:
    """Train, and kill all processes of a kind as soon as the moment has come and there are any."""
    killed: list[str] = []
    before = moment(run.folder) if moment else 0
    due = (lambda: moment(run.folder) > before) if moment else (lambda: True)
    killer = threading.Thread(target=_kill, args=(run.folder, kind, due, killed), daemon=True)
    killer.start()
    stream = io.StringIO()
    failures = launch(plan([run]), stream)
    assert killed, f"no {kind} was there to be killed"
    return stream.getvalue(), failures


def _kill(folder: Path, kind: str, due: Callable[[], bool], killed: list[str]) -> None:
    while not killed:
        time.sleep(0.1)
        if not due():
            continue
        for process in processes_of(folder):
            try:
                words = process.cmdline()
                # Behind the interpreter and its options; further words of daemons name other processes.
                if any(kind in word for word in words[:5]):
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(" ".join(words[:5]))
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
