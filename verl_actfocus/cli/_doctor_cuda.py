"""Whether driver, CUDA toolkit and torch go together, and what is to be done about flash-attn."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from verl_actfocus.cli._finding import Finding
from verl_actfocus.experiments.runs.requirements import installed_version, remedy, requirements

#: How to train without flash-attn.
WITHOUT = (
    "train without it: ATTENTION=sdpa before a script, or "
    "actor_rollout_ref.model.override_config.attn_implementation=sdpa"
)


def check_driver() -> Iterator[Finding]:
    """Compare the CUDA that the driver runs with the one that torch was built with; nothing without either."""
    import torch

    found = re.search(r"Driver Version: *(\S+).*?CUDA Version: *([\d.]+)", _output("nvidia-smi"))
    if found is None or torch.version.cuda is None:
        return
    driver, runs = found.groups()
    built = torch.version.cuda
    advice = (
        f"update NVIDIA's driver to one that runs CUDA {built}, or install a torch that is built with CUDA "
        f"{Version(runs).major} (cu{runs.replace('.', '')} among PyTorch's indexes of builds)"
    )
    # Within a major version of CUDA an older driver runs what a newer toolkit has built.
    enough = Version(runs).major >= Version(built).major
    state = f"{driver}, runs CUDA up to {runs}; torch {torch.__version__} is built with CUDA {built}"
    yield Finding("NVIDIA driver", state, None if enough else advice)


def check_flash_attention() -> Iterator[Finding]:
    """Say whether flash-attn is there and fits torch, and if not whether it can be built here."""
    for requirement in requirements("flash-attn"):
        installed = installed_version(requirement)
        if installed is None:
            yield Finding(requirement.name, *_buildable(requirement))
        elif (problem := _import_problem()) is not None:
            again = f"{_build(requirement)} --force-reinstall --no-cache-dir"
            advice = f"it was built against another torch: {again}, or {WITHOUT}"
            yield Finding(requirement.name, f"{installed}, cannot be imported: {problem}", advice)
        else:
            wrong = remedy(requirement) and f"{_build(requirement)}, or {WITHOUT}"
            yield Finding(requirement.name, installed, wrong)


def _buildable(requirement: Requirement) -> tuple[str, str]:
    """State and remedy of a machine without flash-attn."""
    import torch

    built = torch.version.cuda
    if built is None:
        return (
            "not installed; torch is a build without CUDA",
            f"pip install -e '.[gpu]' first, then {_build(requirement)}",
        )
    nvcc = _nvcc_release()
    if nvcc is None:
        state = f"not installed; building it takes the CUDA toolkit {built}, that of torch, and there is no nvcc"
        return state, f"install that toolkit, set CUDA_HOME to it and {_build(requirement)}; or {WITHOUT}"
    if Version(nvcc).major != Version(built).major:
        state = f"not installed; nvcc {nvcc} cannot build for a torch of CUDA {built}"
        return state, f"set CUDA_HOME to a toolkit {built} and {_build(requirement)}; or {WITHOUT}"
    return f"not installed; nvcc {nvcc} can build it for torch's CUDA {built}", f"{_build(requirement)}; or {WITHOUT}"


def _build(requirement: Requirement) -> str:
    return f"pip install --no-build-isolation '{requirement}'"


def _import_problem() -> str | None:
    try:
        import_module("flash_attn")
    except ImportError as error:  # an undefined symbol is one too
        return str(error).splitlines()[0]
    return None


def _nvcc_release() -> str | None:
    """Version of the compiler that a build would take: that of CUDA_HOME before that of PATH, as torch looks for it."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = str(Path(home) / "bin/nvcc") if home else "nvcc"
    found = re.search(r"release (\d+\.\d+)", _output(nvcc, "--version"))
    return None if found is None else found[1]


def _output(*command: str) -> str:
    """What a command prints; nothing if it is not there or hangs."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
