"""Tables and scales as files, and runs as a training would leave them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.results.run_result import RunResult
from verl_actfocus.experiments.runs.run import Run
from verl_actfocus.experiments.tables.files import read_scale, read_table
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


@pytest.fixture
def make_request(tmp_path: Path) -> MakeRequest:
    """Build a request for a table written by the test."""

    def make(table: str = TABLE, scale: str = "cpu", scales: str = SCALES, **values: Any) -> Request:
        folder = tmp_path / "tables"
        folder.mkdir(exist_ok=True)
        (folder / "mine.yaml").write_text(table, encoding="utf-8")
        (folder / "_scales.yaml").write_text(scales, encoding="utf-8")
        path = folder / "mine.yaml"
        read = read_scale(path, scale)
        return Request(
            table=read_table(path).on(read),
            scale=read,
            scale_name=scale,
            **{"seeds": 2, "out": tmp_path / "out", **values},
        )

    return make


def finished(request: Request) -> dict[Path, RunResult]:
    """The finished runs of a table, as a plan would hand them on."""
    folders = dict.fromkeys(run.folder for cell in cells(request) for run in cell.runs)
    return {path: RunResult.read(path) for path in folders if RunFolder(path).done is not None}


@pytest.fixture
def finish(record_run: RecordRun) -> Callable[..., None]:
    """Write a finished run where the grid looks for it."""

    def write(run: Run, evaluations: Mapping[int, Mapping[int, Sequence[int]]], **values: Any) -> None:
        folder = record_run(run.folder.parent, str(run.weighting), run.seed, evaluations, **values)
        assert folder.resolve() == run.folder

    return write
