"""`actfocus doctor` finds what is wrong and says what to do about it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from verl_actfocus import models as packaged
from verl_actfocus.cli import _doctor_cuda, doctor
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


def test_every_environment_with_a_profile_needs_its_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In an installation that has lost one of them, and of another the files."""
    models = tmp_path / "models"
    shutil.copytree(Path(packaged.__file__).parent, models, ignore=shutil.ignore_patterns("sudoku", "*.safetensors"))
    (models / "sokoban/model/config.json").unlink()
    monkeypatch.setattr(packaged, "_HERE", models)
    monkeypatch.setattr(doctor, "files", lambda package: tmp_path)
    found = {finding.name: finding for finding in check_models()}
    assert {name: finding.state for name, finding in found.items()} == {
        "model for frozenlake": "present",
        "model for sokoban": "missing",
        "model for sudoku": "missing",
        "model for webshop": "present",
    }
    assert "actfocus warmstart sudoku --out DIR makes it" in str(found["model for sudoku"].remedy)
    assert found["model for webshop"].remedy is None
    monkeypatch.setattr(doctor, "CHECKS", (check_models,))
    assert main(["doctor"]) == 1


def test_where_there_are_gpus_what_recipes_need_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is only said to be there."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda number: "Example GPU")
    monkeypatch.setattr(
        "verl_actfocus.experiments.runs.requirements.version", lambda name: {"vllm": "0.24.0"}.get(name, "1")
    )
    monkeypatch.setattr(_doctor_cuda, "installed_version", lambda requirement: None)
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    found = {finding.name: finding for finding in check_gpus()}
    assert list(found) == ["GPUs", "torch", "vllm", "transformers", "flash-attn", "VERL_PLATFORM"]
    assert found["GPUs"].state == "2: Example GPU" and found["GPUs"].remedy is None
    assert found["vllm"].remedy is None
    assert "pip install 'torch==2.11.0" in str(found["torch"].remedy)
    assert "pip install --no-build-isolation 'flash-attn==" in str(found["flash-attn"].remedy)
    assert found["VERL_PLATFORM"].remedy == "unset VERL_PLATFORM"


def with_cuda(monkeypatch: pytest.MonkeyPatch, built: str | None, **printed: str) -> None:
    """A torch built with a CUDA version, and programs that print something."""
    monkeypatch.setattr("torch.version.cuda", built)
    monkeypatch.setattr(_doctor_cuda, "_output", lambda *command: printed.get(command[0].rpartition("/")[2], ""))


SMI = "| NVIDIA-SMI 570.86.15   Driver Version: 570.86.15   CUDA Version: 12.8 |"
NVCC = "Cuda compilation tools, release {}, V{}.93"


@pytest.mark.parametrize(("built", "well"), [("12.6", True), ("12.9", True), ("13.0", False)])
def test_a_driver_runs_what_was_built_with_its_own_major_version_of_cuda(
    built: str, well: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_cuda(monkeypatch, built, **{"nvidia-smi": SMI})
    (finding,) = _doctor_cuda.check_driver()
    assert finding.state.startswith("570.86.15, runs CUDA up to 12.8; torch") and built in finding.state
    assert (finding.remedy is None) == well
    assert well or "CUDA 12 (cu128 among" in str(finding.remedy)


def test_without_a_driver_or_a_cuda_build_there_is_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cuda(monkeypatch, "13.0")
    assert not list(_doctor_cuda.check_driver())
    with_cuda(monkeypatch, None, **{"nvidia-smi": SMI})
    assert not list(_doctor_cuda.check_driver())


@pytest.mark.parametrize(
    ("built", "nvcc", "state", "advice"),
    [
        ("13.0", "", "building it takes the CUDA toolkit 13.0", "install that toolkit"),
        ("13.0", NVCC.format("12.8", "12.8"), "nvcc 12.8 cannot build for a torch of CUDA 13.0", "a toolkit 13.0"),
        ("13.0", NVCC.format("13.1", "13.1"), "nvcc 13.1 can build it", "pip install --no-build-isolation"),
        (None, "", "torch is a build without CUDA", "pip install -e '.[gpu]' first"),
    ],
)
def test_whether_flash_attn_can_be_built_is_said_and_how_to_do_without(
    built: str | None, nvcc: str, state: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_cuda(monkeypatch, built, nvcc=nvcc)
    monkeypatch.setattr(_doctor_cuda, "installed_version", lambda requirement: None)
    (finding,) = _doctor_cuda.check_flash_attention()
    assert finding.name == "flash-attn" and state in finding.state and advice in str(finding.remedy)
    assert built is None or "ATTENTION=sdpa" in str(finding.remedy)


def test_a_flash_attn_that_was_built_against_another_torch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def importing(name: str) -> None:
        raise ImportError("flash_attn_2_cuda.so: undefined symbol: _ZN3c10")

    monkeypatch.setattr(_doctor_cuda, "installed_version", lambda requirement: "2.8.3")
    monkeypatch.setattr(_doctor_cuda, "import_module", importing)
    (finding,) = _doctor_cuda.check_flash_attention()
    assert "undefined symbol" in finding.state and "--force-reinstall" in str(finding.remedy)


def test_the_compiler_of_cuda_home_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, release in (("home/bin", "13.0"), ("path", "12.4")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "nvcc").write_text(f"#!/bin/sh\necho {NVCC.format(release, release)}\n")
        (tmp_path / name / "nvcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"), prepend=":")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    assert _doctor_cuda._nvcc_release() == "12.4"
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    assert _doctor_cuda._nvcc_release() == "13.0"


def test_amds_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.version.hip", "6.4")
    (finding,) = check_gpus()
    assert "AMD" in finding.state and "NVIDIA" in str(finding.remedy)


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
