"""Runs whose command is a few lines of Python, in a folder of the test's own."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from verl_actfocus.experiments.execution.progress import Display
from verl_actfocus.experiments.execution.training import execute
from verl_actfocus.experiments.runs.composed_run import ComposedRun
from verl_actfocus.experiments.runs.run import Conditions, Run
from verl_actfocus.experiments.runs.step import Step
from verl_actfocus.experiments.runs.weightings import ACTFOCUS

#: Writes metrics as veRL's file logger does: evaluations at `first` and at the last step.
TRAINER = """
import json, os, sys
first, last = int(sys.argv[1]), int(sys.argv[2])
with open(sys.argv[-1].partition("VERL_FILE_LOGGER_PATH=")[2], "w") as file:
    for step in range(first, last + 1):
        data = {"rollout/success": 0.5, "attempt": first}
        if step in (first, 3):
            data |= {"val/success": 0.25, "val/success_standard_error": 0.1}
        file.write(json.dumps({"step": step, "data": data}) + "\\n")
print("platform", os.environ["VERL_PLATFORM"], os.environ["HYDRA_FULL_ERROR"], os.getcwd())
"""


@dataclass(frozen=True, kw_only=True)
class StandIn(Run):
    """A run with another command and another place."""

    place: Path
    words: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.place

    def command(self) -> list[str]:
        return list(self.words)


def make(place: Path, **values: Any) -> StandIn:
    """A run of three steps with ActFocus."""
    given = {"profile": "cpu_frozenlake", "algorithm": "grpo", "steps": 3, "folder": place.parent, **values}
    return StandIn(conditions=Conditions(**given), weighting=ACTFOCUS, seed=0, place=place.resolve())


def composed(run: Run, **settings: Any) -> ComposedRun:
    """A run with a handful of settings in the place of veRL's."""
    few = {
        "trainer.nnodes": 1,
        "trainer.test_freq": 10,
        "trainer.total_training_steps": run.conditions.steps,
        "data.environment.name": "frozenlake",
        "data.seed": run.seed,
    }
    return ComposedRun(run, {**few, **settings}, Step(played=1, kept=1, mini_batch=1, gpus=1, device="cpu"))


def train(run: StandIn, code: str, *arguments: str, display: Display | None = None, **settings: Any) -> dict[str, Any]:
    """Execute a run with this code as its trainer."""
    run = replace(run, words=(sys.executable, "-c", code, *arguments))
    return execute(composed(run, **settings), display or Display("run", io.StringIO()))
