"""A comparison of two finished runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from .pages import ACTFOCUS, UNIFORM, RecordRun, outcomes


@pytest.fixture
def comparison(tmp_path: Path, record_run: RecordRun) -> Path:
    out = tmp_path / "comparison"
    record_run(out, "uniform", 0, {0: outcomes(UNIFORM[0]), 2: outcomes(UNIFORM[1])}, seconds=75.0)
    record_run(out, "actfocus", 0, {0: outcomes(ACTFOCUS[0]), 2: outcomes(ACTFOCUS[1])}, seconds=130.0)
    return out
