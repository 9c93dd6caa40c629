"""Runs that have been trained, and an archive of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from verl_actfocus.experiments.results.archive import Archive
from verl_actfocus.experiments.results.folder import RunFolder
from verl_actfocus.experiments.tables.grid import Request, cells, distinct_runs

from ...conftest import write_lines
from ..report.test_robustness import DECLARED, made_with
from .archives import folders

Finish = Callable[..., None]


@pytest.fixture
def trained(make_request: Callable[..., Request], finish: Finish) -> Request:
    """Eight finished runs; those of Uniform have been evaluated greedily, too."""
    request = make_request(DECLARED, seeds=2)
    for run in distinct_runs(cells(request)):
        solved = 3 + run.seed + 2 * (str(run.weighting) == "actfocus")
        finish(run, {step: {task: [int(task < n)] for task in range(10)} for step, n in ((0, 1), (4, solved))})
        if str(run.weighting) == "uniform":
            write_lines(RunFolder(run.folder).outcomes("greedy"), [{"seed": t, "success": t < 4} for t in range(10)])
            made_with(run.folder, "greedy", {"temperature": 0.0})
    return request


@pytest.fixture
def archive(trained: Request, tmp_path: Path) -> Path:
    path = tmp_path / "runs.tar.xz"
    Archive(path).add(folders(trained))
    return path
