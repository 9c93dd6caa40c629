"""`scripts/gpu_check.sh` from end to end, on the CPU: real runs of stock veRL and of ActFocus, GRPO and PPO."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/gpu_check.sh"


def test_the_check_holds_on_a_cpu(tmp_path):
    result = subprocess.run(
        [SCRIPT, "--device", "cpu", "--out", str(tmp_path)],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    values = json.loads((tmp_path / "gpu.json").read_text())
    assert values["well"] and set(values["steps"]) == {"grpo", "ppo"}
    for run in values["runs"].values():
        assert run["training/rollout_probs_diff_max"] < 1e-4 and run["actfocus/action_tokens"] > 0
