"""A real run whose TransferQueue loses its storage: veRL waits for ever, the command does not."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from verl_actfocus.experiments import watchdog
from verl_actfocus.experiments.launcher import launch, plan
from verl_actfocus.experiments.processes import processes_of
from verl_actfocus.experiments.run import Conditions
from verl_actfocus.experiments.watchdog import census
from verl_actfocus.experiments.weightings import WeightingChoice

from .conftest import TINY

pytestmark = pytest.mark.e2e

#: Settings of `TINY` that a run decides itself.
_TAKEN = ("trainer.total_training_steps", "trainer.resume_mode")


def test_a_killed_storage_worker_is_named_and_the_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LOST_SECONDS", 20.0)
    extra = tuple(word for word in TINY if not word.startswith(_TAKEN))
    conditions = Conditions(profile="cpu_frozenlake", algorithm="grpo", folder=tmp_path, steps=50, extra=extra)
    (run,) = conditions.runs([WeightingChoice.parse("uniform")], [0])
    killer = threading.Thread(target=_kill_storage_after_a_step, args=(run.folder,), daemon=True)
    killer.start()
    stream = io.StringIO()
    (failure,) = launch(plan([run]), stream)
    assert "died: SimpleStorageUnit" in stream.getvalue()
    assert "after the death of SimpleStorageUnit" in str(failure.error)
    assert processes_of(run.folder) == []


def _kill_storage_after_a_step(folder: Path) -> None:
    while not any(file.read_bytes().count(b"\n") > 1 for file in folder.glob("metrics-*.jsonl")):
        time.sleep(0.2)
    for process, seen in census(folder).items():
        if "SimpleStorageUnit" in seen.title:
            os.kill(process.pid, signal.SIGKILL)
