"""A recipe on two nodes: two Rays on this machine, each with a logical GPU and a folder of its own.

    pytest -m slow tests/e2e/test_two_nodes.py

The only test of several nodes that one machine allows. Networks, and file systems that are not shared, are not in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SCRIPT = Path(__file__).resolve().parents[2] / "recipes/frozenlake/run_grpo.sh"
#: Of every process: quiet, without the token that `ray start` asks for, and what a CPU run sets for its own Ray.
RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
#: Seconds for a Ray to start, and for a run.
START, RUN = 120, 560


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def node(folder: Path, *options: str, **variables: str) -> Iterator[None]:
    """A Ray node of this machine in a folder of its own; ended with everything that it started, and nothing else."""
    folder.mkdir(parents=True)
    here = ["--block", "--num-gpus=1", "--num-cpus=8"]
    command = [str(Path(sys.executable).parent / "ray"), "start", *here, *options]
    environment = {**os.environ, **RAY, **variables}
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START
        while "Ray runtime started" not in (folder / "log.txt").read_text():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log.txt").read_text()
            time.sleep(0.5)
        yield
    finally:
        process.terminate()  # --block ends what it started
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def two_nodes(folder: Path, **variables: str) -> Iterator[str]:
    """Two nodes; the second one with other environment variables. Yields the cluster's address."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}/r"]
    with node(folder / "head", *head), node(folder / "other", f"--address={address}", **variables):
        yield address


def recipe(out: Path, address: str) -> subprocess.Popen[str]:
    """Start the recipe on both nodes, two steps with a checkpoint after each."""
    variables = {"RAY_ADDRESS": address, "NODES": "2", "DEVICE": "cpu", "OUT": str(out), "PYTHON": sys.executable}
    return subprocess.Popen(
        [str(SCRIPT), "--steps=2", "trainer.save_freq=1"],
        cwd=out.parent,
        env={**os.environ, **RAY, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Ray's sockets lie in its folder, and the name of a socket has at most 107 characters."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="two-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_two_nodes_train_are_interrupted_and_resume(short: Path) -> None:
    run = short / "out/actfocus-seed0"
    run.parent.mkdir()
    tracker = run / "checkpoints/latest_checkpointed_iteration.txt"
    with two_nodes(short) as address:
        process = recipe(run.parent, address)
        deadline = time.monotonic() + RUN
        while not tracker.exists():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
        assert not (run / "done.json").exists()
        printed, said = recipe(run.parent, address).communicate(timeout=RUN)
    assert (run / "done.json").exists(), printed + said + (run / "log.txt").read_text()[-3000:]
    # One process of training on each node.
    step = run / "checkpoints/global_step_2/actor"
    assert sorted(path.name for path in step.glob("model_*")) == [
        f"model_world_size_2_rank_{rank}.pt" for rank in (0, 1)
    ]
    steps = [json.loads(line)["step"] for file in sorted(run.glob("metrics-*.jsonl")) for line in file.open()]
    assert json.loads((run / "done.json").read_text())["attempts"] == 2
    assert steps[0] == 0 and steps[-1] == 2 and steps.count(1) >= 1
    assert not (run / "checkpoints/global_step_1/actor").exists(), "the checkpoint that was resumed from is left"


def test_a_node_without_the_package_ends_the_start_with_a_sentence(short: Path) -> None:
    # As if it were not installed there, whatever the environment that Python runs in has.
    missing = short / "missing/verl_actfocus"
    missing.mkdir(parents=True)
    (missing / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'verl_actfocus'\")\n")
    out = short / "out"
    out.mkdir()
    with two_nodes(short, PYTHONPATH=str(missing.parent)) as address:
        process = recipe(out, address)
        printed, said = process.communicate(timeout=RUN)
    assert process.returncode == 2, printed + said
    (sentence,) = said.splitlines()
    assert "cannot train with this package: ModuleNotFoundError: No module named 'verl_actfocus'" in sentence
    assert sentence.startswith("actfocus train: node ") and sentence.count("cannot train") == 1
    assert not (out / "actfocus-seed0/log.txt").exists()
