"""A declared table and its scales, and the runs that a training would leave of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.results.run_result import RunResult
from verl_actfocus.experiments.tables.grid import Request, cells

TABLE = """
title: A comparison
source: Nobody 2026, Table 9
algorithm: grpo
weightings:
  uniform: {label: Uniform, weighting: uniform}
  actfocus: {label: ActFocus}
rows:
  - env: frozenlake
    paper:
      large: {uniform: [12.5, 26.2], actfocus: [6.8, null]}
      small: {uniform: [null, 23.8]}
  - env: sokoban
"""
SCALES = """
cpu: {summary: small, run: "cpu_{env}", first_seed: 1, seeds: 2, steps: 4, size: tiny}
gpu:
  summary: large
  run: "{env}_{algorithm}"
  first_seed: 0
  seeds: 5
  models:
    frozenlake: {large: big/model, small: little/model}
    sokoban: {large: big/model}
"""

RecordRun = Callable[..., Path]
MakeRequest = Callable[..., Request]


def finished(request: Request) -> dict[Path, RunResult]:
    """The finished runs of a table, as a plan would hand them on."""
    folders = dict.fromkeys(run.folder for cell in cells(request) for run in cell.runs)
    return {path: RunResult.read(path) for path in folders if RunFolder(path).done is not None}
