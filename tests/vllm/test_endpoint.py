"""`actfocus eval --endpoint` against `vllm serve` finds what the evaluation of the same model on this machine finds."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from verl_actfocus import models
from verl_actfocus.cli.main import main
from verl_actfocus.trajectories import Trajectory, read_trajectories

pytestmark = [pytest.mark.e2e, pytest.mark.vllm]

#: Most seconds until the server answers; the first start of an environment compiles.
PATIENCE = 300
PROFILE = ["--profile", "cpu_frozenlake"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The packaged model behind `vllm serve`, under its name."""
    folder, port = models.folder("frozenlake"), free_port()
    command = [
        *[str(Path(sys.executable).with_name("vllm")), "serve", str(folder / "model")],
        *["--tokenizer", str(folder / "tokenizer"), "--served-model-name", "frozenlake"],
        *["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"],
        # Requests with seeds end vLLM's CPU engine in a prefill that is cut in chunks.
        *["--max-num-batched-tokens", "65536", "--no-enable-chunked-prefill"],
    ]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with log.open("w") as file:
        server = subprocess.Popen(
            command,
            env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=60)


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()[-6000:]
        with suppress(httpx.HTTPError):
            if httpx.get(address).status_code == 200:
                return
        time.sleep(1)
    raise AssertionError(f"no answer within {PATIENCE} s: {log.read_text()[-6000:]}")


def evaluate(folder: Path, *words: str) -> tuple[dict, dict[tuple, Trajectory]]:
    """Evaluate the packaged model; return the summary, and the trajectory of every task and sample."""
    assert main(["eval", "--model", "frozenlake", *PROFILE, *words, "--out", str(folder)]) == 0
    played = read_trajectories(folder / "trajectories.jsonl")
    return json.loads((folder / "summary.json").read_text()), {(one.task, one.session): one for one in played}


def test_greedy_episodes_are_those_of_the_local_evaluation(endpoint: str, tmp_path: Path) -> None:
    words = ["--temperature", "0", "--samples-per-task", "1"]
    _, served = evaluate(tmp_path / "served", *words, "--endpoint", endpoint)
    _, local = evaluate(tmp_path / "local", *words, "--device", "cpu")
    assert len(served) == 64 and served.keys() == local.keys()
    assert [key for key, one in served.items() if one.ids != local[key].ids] == []
    assert [one.success for one in served.values()] == [local[key].success for key in served]


def test_sampled_episodes_succeed_as_often_as_those_of_the_local_evaluation(endpoint: str, tmp_path: Path) -> None:
    """Both draw from the same distribution with generators of their own: alike within the intervals, not alike."""
    summary, served = evaluate(tmp_path / "served", "--endpoint", endpoint)
    here, local = evaluate(tmp_path / "local", "--device", "cpu")
    assert summary["model"]["encodes_again"] is False
    assert len(served) == len(local) == 256
    found, expected = summary["figures"]["success"], here["figures"]["success"]
    assert expected["low"] < found["value"] < expected["high"]
