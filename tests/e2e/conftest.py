"""Runs of veRL's real trainer, `python -m verl.trainer.main_ppo`, in a subprocess."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

#: Two steps on two cores take about a minute, most of it start-up.
TIMEOUT_SECONDS = 900


def run_training(folder: Path, command: list[str], metrics: Path | None = None, **variables: str) -> list[dict]:
    """Run a training command and return its metrics: one dictionary per logged step, `step` included.

    Args:
        folder: where metrics and output go.
        command: the command, which logs into a file (`trainer.logger=[file]`).
        metrics: that file, if the command names it itself.
        variables: environment variables of its own.
    """
    metrics, log = metrics or folder / "metrics.jsonl", folder / "log.txt"
    environment = {
        **os.environ,
        "VERL_FILE_LOGGER_PATH": str(metrics),
        "HYDRA_FULL_ERROR": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        **variables,
    }
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(timeout=TIMEOUT_SECONDS)
        finally:
            # The whole group: a run that failed or hangs must not leave Ray processes behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
    assert code == 0, f"{' '.join(command)}\n{log.read_text()[-6000:]}"
    return [{"step": line["step"], **line["data"]} for line in map(json.loads, metrics.read_text().splitlines())]


def main_ppo(folder: Path, *overrides: str) -> list[dict]:
    """Run veRL's trainer on the CPU and return its metrics."""
    command = [
        sys.executable,
        "-m",
        "verl.trainer.main_ppo",
        "trainer.logger=[file]",
        f"trainer.default_local_dir={folder}/checkpoints",
        f"hydra.run.dir={folder}/hydra",
        *overrides,
    ]
    return run_training(folder, command, VERL_PLATFORM="cpu")


@pytest.fixture
def run_verl(tmp_path):
    """`main_ppo` in a folder of the test's own."""
    return lambda *overrides: main_ppo(tmp_path, *overrides)


#: A miniature of the miniature: 16 trajectories a step in two updates, 8 evaluation episodes.
TINY = [
    "data.train_batch_size=4",
    "actor_rollout_ref.rollout.n=4",
    "actor_rollout_ref.actor.ppo_mini_batch_size=2",
    "data.environment.val_size=4",
    "actor_rollout_ref.rollout.val_kwargs.n=2",
    "trainer.total_training_steps=2",
    "trainer.save_freq=-1",
    "trainer.resume_mode=disable",
]
