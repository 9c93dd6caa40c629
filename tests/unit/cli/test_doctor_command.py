"""`actfocus doctor` finds what is wrong and says what to do about it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement

from verl_actfocus.cli import doctor
from verl_actfocus.cli.doctor import (
    Finding,
    check_gpus,
    check_machine,
    check_models,
    check_plugin,
    check_python,
    check_requirement,
)
from verl_actfocus.cli.main import main


def test_an_installed_requirement_is_fine() -> None:
    installed = version("numpy")
    assert check_requirement(Requirement("numpy>=1")) == Finding("numpy", installed, None)


def test_a_local_version_such_as_a_cpu_build_counts_as_its_release() -> None:
    release = version("torch").partition("+")[0]
    assert check_requirement(Requirement(f"torch=={release}")).remedy is None


def test_a_wrong_version_names_the_command_that_mends_it() -> None:
    finding = check_requirement(Requirement("numpy<1"))
    assert finding.remedy is not None and "pip install 'numpy<1'" in finding.remedy


def test_a_missing_distribution_is_named() -> None:
    finding = check_requirement(Requirement("no-such-distribution>=1"))
    assert finding.state == "not installed" and finding.remedy == "pip install 'no-such-distribution>=1'"


def test_an_unsupported_python_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert next(check_python()).remedy is None
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.9.1")
    (finding,) = check_python()
    assert finding.state == "3.9.1" and finding.remedy is not None and "<3.13" in finding.remedy


def test_little_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.machine, "free_memory", lambda: 1_500_000_000)
    finding = next(found for found in check_machine() if found.name == "free memory")
    assert finding.state.startswith("1.5 GB") and finding.remedy is not None


def test_every_environment_with_a_profile_needs_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "environments", lambda: ["nowhere"])
    (finding,) = check_models()
    assert finding.state == "missing" and "actfocus warmstart nowhere" in str(finding.remedy)


def test_where_there_are_gpus_what_recipes_need_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is only said to be there."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda number: "Example GPU")
    monkeypatch.setattr(
        "verl_actfocus.experiments.requirements.version", lambda name: {"vllm": "0.24.0"}.get(name, "1")
    )
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    found = {finding.name: finding for finding in check_gpus()}
    assert list(found) == ["GPUs", "torch", "vllm", "transformers", "flash-attn", "VERL_PLATFORM"]
    assert found["GPUs"].state == "2: Example GPU" and found["GPUs"].remedy is None
    assert found["vllm"].remedy is None
    assert "pip install 'torch==2.11.0" in str(found["torch"].remedy)
    assert str(found["flash-attn"].remedy).startswith("pip install --no-build-isolation 'flash-attn==")
    assert found["VERL_PLATFORM"].remedy == "unset VERL_PLATFORM"


@pytest.mark.parametrize(("driver", "well"), [(None, True), ("/usr/bin/nvidia-smi", False)])
def test_gpus_that_torch_does_not_find_are_found(
    driver: str | None, well: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: driver)
    (finding,) = check_gpus()
    assert (finding.remedy is None) == well


@pytest.mark.parametrize(
    ("code", "out", "err", "state", "well"),
    [
        (0, "noise\nplatform: cpu\n", "", "registered (platform: cpu)", True),
        (1, "", "Traceback\nRuntimeError: not registered with veRL: x\n", "RuntimeError: not registered", False),
        (-9, "", "", "exit code -9 without a message", False),
    ],
)
def test_the_plugin_is_checked_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, code: int, out: str, err: str, state: str, well: bool
) -> None:
    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, code, out, err)

    monkeypatch.setattr(doctor.subprocess, "run", run)
    (finding,) = check_plugin()
    assert state in finding.state and (finding.remedy is None) == well


def test_the_exit_code_says_whether_everything_is_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def good() -> Iterator[Finding]:
        yield Finding("one", "fine")

    def bad() -> Iterator[Finding]:
        yield Finding("two", "broken", "mend it")

    monkeypatch.setattr(doctor, "CHECKS", (good,))
    assert main(["doctor"]) == 0
    monkeypatch.setattr(doctor, "CHECKS", (good, bad))
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "FAIL  two: broken\n      -> mend it" in printed and "ok    one: fine" in printed
