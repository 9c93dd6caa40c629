"""Runs whose stand-ins end in no time, declared tables as files, and runs as a training would leave them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from verl_actfocus.experiments.execution import processes, supervision
from verl_actfocus.experiments.runs.run import Run
from verl_actfocus.experiments.tables.files import read_scale, read_table
from verl_actfocus.experiments.tables.grid import Request

from .declared import SCALES, TABLE, MakeRequest, RecordRun


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often and wait briefly."""
    monkeypatch.setattr(supervision, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.3)


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


@pytest.fixture
def finish(record_run: RecordRun) -> Callable[..., None]:
    """Write a finished run where the grid looks for it."""

    def write(run: Run, evaluations: Mapping[int, Mapping[int, Sequence[int]]], **values: Any) -> None:
        folder = record_run(run.folder.parent, str(run.weighting), run.seed, evaluations, **values)
        assert folder.resolve() == run.folder

    return write
