"""Tables and profiles as files, and runs as a training would leave them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from verl_actfocus.experiments.runs import Run
from verl_actfocus.experiments.specification import read_profile, read_table

from verl_actfocus.experiments import grid
from verl_actfocus.experiments.folder import RunFolder
from verl_actfocus.experiments.grid import Request

TABLE = """
title: A comparison
source: Nobody 2026, Table 9
algorithm: grpo
variants:
  uniform: {label: Uniform, method: uniform}
  actfocus: {label: ActFocus}
rows:
  - env: frozenlake
    paper:
      large: {uniform: [12.5, 26.2], actfocus: [6.8, null]}
      small: {uniform: [null, 23.8]}
  - env: sokoban
"""
PROFILES = """
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

    def make(table: str = TABLE, profile: str = "cpu", profiles: str = PROFILES, **values: Any) -> Request:
        folder = tmp_path / "tables"
        folder.mkdir(exist_ok=True)
        (folder / "mine.yaml").write_text(table, encoding="utf-8")
        (folder / "_profiles.yaml").write_text(profiles, encoding="utf-8")
        path = folder / "mine.yaml"
        return Request(
            table=read_table(path),
            profile=read_profile(path, profile),
            profile_name=profile,
            **{"seeds": 2, "out": tmp_path / "out", **values},
        )

    return make


@pytest.fixture
def finish(record_run: RecordRun, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write a finished run where the grid looks for it, as if it had been made with the settings of today."""
    monkeypatch.setattr(grid, "compose_settings", lambda run: RunFolder(run.folder).settings)

    def write(run: Run, evaluations: Mapping[int, Mapping[int, Sequence[int]]], **values: Any) -> None:
        folder = record_run(run.folder.parent, run.method, run.seed, evaluations, **values)
        assert folder.resolve() == run.folder
        begun = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**begun, "run": run.identity()}))

    return write
