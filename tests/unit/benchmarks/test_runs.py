"""A run of a benchmark ends with its record or with an explanation, and begins anew after an interruption."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from verl_actfocus.benchmarks import memory
from verl_actfocus.benchmarks.devices import variables_of
from verl_actfocus.benchmarks.runs import BenchmarkRun
from verl_actfocus.experiments.execution import processes, supervision
from verl_actfocus.experiments.execution.progress import Display
from verl_actfocus.experiments.execution.supervision import refuse_orphans
from verl_actfocus.storage.errors import ExperimentError, RunFailedError

#: Writes metrics as veRL's file logger does, and a variable of its environment.
TRAINER = """
import json, os, sys, time
with open(sys.argv[-1].partition("VERL_FILE_LOGGER_PATH=")[2], "w") as file:
    for step in range(1, {steps} + 1):
        file.write(json.dumps({{"step": step, "data": {{"timing_s/step": 1.0}}}}) + "\\n")
print("platform", os.environ["VERL_PLATFORM"], os.environ.get("MORE"))
time.sleep(0.5)
sys.exit({code})
"""


class StandIn(BenchmarkRun):
    """A run with a few lines of Python as its trainer."""

    code = TRAINER.format(steps=2, code=0)

    def __init__(self, folder, overrides, steps, variables=None):
        super().__init__(folder, overrides, steps, {**variables_of("cpu"), **(variables or {})})

    def command(self) -> list[str]:
        return [sys.executable, "-c", self.code]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(supervision, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(memory, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.3)


def execute(run):
    run.execute(Display("run", io.StringIO()))


def test_a_finished_run_leaves_conditions_peak_memory_and_metrics(tmp_path):
    run = StandIn(tmp_path / "run", ["a=1"], 2, {"MORE": "more"})
    execute(run)
    done = run.done
    assert done is not None
    assert done["overrides"] == ["a=1"]
    assert done["conditions"]["versions"]["verl"] == "0.9.1" and done["conditions"]["load"] >= 0
    assert 1 < done["peak_megabytes"]["all_processes"] < 500
    assert run.metrics() == {1: {"timing_s/step": 1.0}, 2: {"timing_s/step": 1.0}}
    assert (run.folder / "log.txt").read_text() == "platform cpu more\n"


@pytest.mark.parametrize(
    ("steps", "code", "how"), [(1, 0, "ended before its last step"), (2, 3, "failed with exit code 3")]
)
def test_a_run_without_all_its_steps_or_with_an_error_has_failed(tmp_path, steps, code, how):
    run = StandIn(tmp_path / "run", [], 2)
    run.code = TRAINER.format(steps=steps, code=code)
    with pytest.raises(RunFailedError, match=rf"run {how} \(after step {steps} of 2\)"):
        execute(run)
    assert run.done is None


def test_what_an_interrupted_command_has_left_is_not_taken_for_the_runs(tmp_path):
    run = StandIn(tmp_path / "run", [], 2)
    run.folder.mkdir()
    (run.folder / "metrics.jsonl").write_text('{"step": 7, "data": {"timing_s/step": 9.0}}\n')
    execute(run)
    assert sorted(run.metrics()) == [1, 2]


def test_what_a_killed_command_still_trains_is_not_measured_together_with_a_new_run(tmp_path):
    run = StandIn(tmp_path / "run", [], 2)
    with subprocess.Popen(["sleep", "60"], env={**os.environ, processes.MARK: str(run.folder)}) as orphan:
        try:
            with pytest.raises(ExperimentError, match=f"run is in use: process {orphan.pid} is still training there"):
                execute(run)
            # A benchmark looks for those of all its runs, whichever it was begun with.
            with pytest.raises(ExperimentError, match=f"is in use: process {orphan.pid} is still training there"):
                refuse_orphans(tmp_path)
        finally:
            orphan.kill()
    execute(run)


def test_a_record_of_other_settings_is_refused(tmp_path):
    execute(StandIn(tmp_path / "run", ["a=1", "b=2"], 2))
    with pytest.raises(ExperimentError, match=r"other settings \(a=1, a=3\); choose another --out or delete it"):
        _ = StandIn(tmp_path / "run", ["a=3", "b=2"], 2).done


def test_the_real_command_is_verls(tmp_path):
    command = BenchmarkRun(tmp_path, ["a=1"], 2, {}).command()
    assert command[1:] == ["-W", "ignore", "-m", "verl.trainer.main_ppo", "a=1"]
    assert command[0] == sys.executable
