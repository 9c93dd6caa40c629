"""A machine that cannot do what is asked for says so in a sentence, before anything is started."""

from __future__ import annotations

import subprocess

import pytest
import torch

from verl_actfocus.experiments.runs import requirements
from verl_actfocus.experiments.runs.requirements import require_attention, require_cluster, require_gpu
from verl_actfocus.storage.errors import ExperimentError


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_a_run_on_gpus_needs_one_here_or_in_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ExperimentError, match="torch finds no GPU here"):
        require_gpu()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    require_gpu()
    with pytest.raises(ExperimentError, match="run this on a GPU node, or train a miniature"):
        require_gpu(alone=True)


def test_a_torch_for_amd_is_refused_though_it_says_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    require_gpu()
    monkeypatch.setattr(torch.version, "hip", "6.4.1")
    with pytest.raises(ExperimentError, match=r"AMD GPUs \(ROCm 6\.4\.1\).*use NVIDIA GPUs"):
        require_gpu()


def test_flash_attention_needs_its_package_and_sdpa_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    require_attention("sdpa")
    with pytest.raises(ExperimentError, match=r"needs flash-attn.*actfocus doctor.*attn_implementation=sdpa"):
        require_attention("flash_attention_2")
    # It is installed on the nodes, not where the command is given.
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    require_attention("flash_attention_2")


@pytest.mark.parametrize("address", [None, "local"])
def test_several_nodes_need_a_cluster(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    require_cluster(1, {})
    with pytest.raises(ExperimentError, match=r"trainer\.nnodes=2: .*ray start --head here.*RAY_ADDRESS=auto"):
        require_cluster(2, {})


@pytest.mark.parametrize(
    ("code", "said", "error"),
    [
        (0, "", None),
        (1, "a warning\nnode a has verl 0.9.0, the trainer 0.9.1\n", "^node a has verl"),
        (-9, "", "ended with exit code -9"),
    ],
)
def test_a_cluster_is_asked_in_a_process_of_its_own(
    code: int, said: str, error: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert command[-2:] == ["verl_actfocus.integration.nodes", "3"]
        assert options["env"]["VERL_PLATFORM"] == "cpu"
        return subprocess.CompletedProcess(command, code, "", said)

    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(requirements.subprocess, "run", run)
    if error is None:
        require_cluster(3, {"VERL_PLATFORM": "cpu"})
    else:
        with pytest.raises(ExperimentError, match=error):
            require_cluster(3, {"VERL_PLATFORM": "cpu"})
