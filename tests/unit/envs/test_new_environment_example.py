"""The tutorial runs, passes gymnasium's checker and solves its task."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TRAINING_DATA = """
import verl
from hydra import compose, initialize_config_module
with initialize_config_module("verl.trainer.config", version_base=None):
    overrides = ["+actfocus=default", "+actfocus/env=_episodes", "data.environment.name=jugs"]
    config = compose("ppo_trainer", overrides=overrides)
from verl_actfocus.integration.dataset import EnvironmentDataset
row = EnvironmentDataset("train", config=config.data)[0]["environment"]
from verl_actfocus import envs
print(envs.make(row["name"], **row["kwargs"]).reset(seed=row["seed"])[0])
"""
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


def test_a_training_run_finds_it_when_verl_is_told_to_import_its_module() -> None:
    paths = os.pathsep.join([str(EXAMPLE.parents[1]), str(EXAMPLE.parent)])
    told = {"VERL_PLATFORM": "cpu", "VERL_USE_EXTERNAL_MODULES": "new_environment", "PYTHONPATH": paths}
    run = subprocess.run([sys.executable, "-c", TRAINING_DATA], capture_output=True, text=True, env=os.environ | told)
    assert run.returncode == 0, run.stderr
    assert "5-litre jug: 0 litres" in run.stdout
