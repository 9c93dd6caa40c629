"""The tutorial runs, passes gymnasium's checker and solves its task."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "new_environment.py"


def test_the_tutorial_builds_registers_checks_and_solves_an_environment() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(EXAMPLE)],
        capture_output=True,
        text=True,
        cwd=EXAMPLE.parents[1],
        env={"PYTHONPATH": str(EXAMPLE.parents[1])},
    )
    assert run.returncode == 0, run.stderr
    assert "ended: success, reward 1" in run.stdout
    wanted = run.stdout.rsplit("Wanted: ", 1)[1][0]
    assert f"jug: {wanted} litres" in run.stdout.rsplit("Wanted: ", 1)[1]
