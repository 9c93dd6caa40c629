"""The tutorial's estimator is chosen on a command line like a packaged one, and is short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from verl_actfocus.estimators import ESTIMATORS, computed_estimate, estimator_from

from .batches import Played, batch_of

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "new_estimator.py"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(EXAMPLE.parent), *sys.path])
    monkeypatch.delitem(sys.modules, "new_estimator", raising=False)
    monkeypatch.delitem(ESTIMATORS, "leave_one_out", raising=False)
    __import__("new_estimator")
    yield
    ESTIMATORS.pop("leave_one_out")
    sys.modules.pop("new_estimator")


def test_its_advantages_are_those_of_its_formula(example: None) -> None:
    played = [Played("a", [1.0]), Played("b", [5.0]), Played("a", [0.0, 3.0]), Played("a", [2.0])]
    found = computed_estimate(estimator_from("actfocus_leave_one_out", {"scale": 2.0}), batch_of(played))
    assert found is not None
    # Returns of group a are 1, 3 and 2; b is alone.
    wanted = [2 * (1 - 2.5), 0.0, 2 * (3 - 1.5), 2 * (2 - 2.0)]
    for row, (one, value, mask) in enumerate(zip(found.advantages, wanted, batch_of(played).model_mask, strict=True)):
        assert torch.equal(one, value * mask.float()), row


def test_the_command_of_its_docstring_takes_it_and_every_run_trains_with_it(tmp_path: Path) -> None:
    words = ["--module", "new_estimator", "compare", "--estimators", "grpo", "leave_one_out scale=0.5"]
    words += ["--weightings", "uniform", "actfocus", "--out", str(tmp_path / "runs"), "--dry-run"]
    told = {"VERL_PLATFORM": "cpu", "PYTHONPATH": os.pathsep.join([str(EXAMPLE.parent), str(ROOT)])}
    run = subprocess.run(
        [sys.executable, "-m", "verl_actfocus.cli.main", *words],
        capture_output=True,
        text=True,
        env=os.environ | told,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    own = [line for line in run.stdout.splitlines() if "algorithm.adv_estimator=actfocus_leave_one_out" in line]
    assert len(own) == 2 and all("++algorithm.actfocus.estimator.scale=0.5" in line for line in own)
    # Pasted into a shell elsewhere it still finds the module.
    assert all(
        f"PYTHONPATH={EXAMPLE.parent}" in line and "VERL_USE_EXTERNAL_MODULES=new_estimator" in line for line in own
    )


def test_it_takes_less_than_forty_lines() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 40
