"""`actfocus doctor`: check the installation and this machine, and say what to do about what is wrong."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.resources import files

from packaging.requirements import Requirement

from verl_actfocus.cli._doctor_cuda import check_driver, check_flash_attention
from verl_actfocus.cli._finding import Finding
from verl_actfocus.experiments.execution.logs import clean_line
from verl_actfocus.experiments.results import machine
from verl_actfocus.experiments.runs.requirements import installed_version, remedy, required_python, requirements
from verl_actfocus.experiments.runs.run import PLATFORM_VARIABLE, environments

#: What a run on the CPU with a tiny model takes of the disk, in bytes.
DISK = 2e9
#: Loads veRL as a training process does and prints the platform it chose; the plugin must come by itself.
_PROBE = """
import sys
import verl
assert "verl_actfocus.integration.plugin" in sys.modules, "import verl does not load the plugin verl_actfocus"
from verl_actfocus.integration.registration import verify
from verl.plugin.platform import get_platform
verify()
print("platform:", get_platform().device_name)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.description = (
        "Check versions, veRL's plugins, the platform, memory and disk, and where there are GPUs what training on them "
        "needs; takes about 20 seconds."
    )


def run(args: argparse.Namespace) -> int:
    """Check and print one line per check.

    Args:
        args: the parsed arguments.

    Returns:
        0 if everything is well, 1 otherwise.
    """
    healthy = True
    for check in CHECKS:
        for finding in check():
            healthy &= finding.remedy is None
            print(f"{'ok  ' if finding.remedy is None else 'FAIL'}  {finding.name}: {finding.state}", flush=True)
            if finding.remedy is not None:
                print(f"      -> {finding.remedy}")
    print("everything is well" if healthy else "something needs attention, see above")
    return 0 if healthy else 1


def check_python() -> Iterator[Finding]:
    """Python's version."""
    found, wanted = platform.python_version(), required_python()
    yield Finding(
        "Python", found, None if found in wanted else f"use a Python {wanted}, as veRL and its dependencies do"
    )


def check_requirements() -> Iterator[Finding]:
    """Every distribution that this package requires, extras left out."""
    for requirement in requirements():
        yield check_requirement(requirement)


def check_requirement(requirement: Requirement) -> Finding:
    """Whether a distribution is installed in a version that is asked for."""
    return Finding(requirement.name, installed_version(requirement) or "not installed", remedy(requirement))


def check_gpus() -> Iterator[Finding]:
    """What the recipes need, where torch or the driver finds a GPU."""
    import torch

    if torch.version.hip is not None:
        advice = (
            "the engines of token weights are for NVIDIA GPUs; a CPU build of torch plays and trains miniatures here"
        )
        yield Finding("GPUs", f"torch {torch.__version__} is built for AMD's", advice)
        return
    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi"):
            advice = "pip install -e '.[gpu]' brings the CUDA build of torch that veRL pins; check the driver otherwise"
            yield Finding("GPUs", f"torch {torch.__version__} finds none although nvidia-smi is installed", advice)
            yield from check_driver()
        else:
            yield Finding("GPUs", "none: runs on the CPU only")
        return
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    yield Finding("GPUs", f"{len(names)}: {', '.join(dict.fromkeys(names))}")
    yield from check_driver()
    for requirement in requirements("gpu"):
        yield check_requirement(requirement)
    yield from check_flash_attention()
    chosen = os.environ.get(PLATFORM_VARIABLE)
    yield Finding(PLATFORM_VARIABLE, chosen or "not set", f"unset {PLATFORM_VARIABLE}" if chosen == "cpu" else None)


def check_plugin() -> Iterator[Finding]:
    """Whether veRL loads this package by itself and finds everything, on the platform of a CPU run."""
    environment = {**os.environ, PLATFORM_VARIABLE: "cpu"}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROBE], capture_output=True, text=True, env=environment, check=False
    )
    if result.returncode == 0:
        platform_line = result.stdout.strip().splitlines()[-1]
        yield Finding("veRL plugin", f"registered ({platform_line})")
        return
    lines = [clean_line(line) for line in result.stderr.splitlines() if line.strip()]
    yield Finding(
        "veRL plugin",
        lines[-1] if lines else f"exit code {result.returncode} without a message",
        "reinstall the package (pip install .) in this environment; whole error: python -c 'import verl; from "
        "verl_actfocus.integration import registration; registration.verify()'",
    )


def check_models() -> Iterator[Finding]:
    """The tiny models that the CPU profiles start from."""
    folder = files("verl_actfocus") / "models"
    for name in environments():
        present = (folder / name / "model" / "config.json").is_file()
        advice = None if present else f"actfocus warmstart {name} --out DIR makes it; or reinstall the package"
        yield Finding(f"model for {name}", "present" if present else "missing", advice)


def check_machine() -> Iterator[Finding]:
    """Memory, disk and cores."""
    free = machine.free_memory()
    needed = machine.MEMORY_OF_A_RUN
    too_little = f"a run takes about {needed / 1e9:.0f} GB: end other programs or use a larger machine"
    advice = None if free >= needed else too_little
    yield Finding("free memory", f"{free / 1e9:.1f} GB of {machine.total_memory() / 1e9:.1f} GB", advice)
    for place in dict.fromkeys([tempfile.gettempdir(), os.getcwd()]):
        space = shutil.disk_usage(place).free
        advice = None if space >= DISK else f"make room: Ray and checkpoints take about {DISK / 1e9:.0f} GB"
        yield Finding(f"free disk at {place}", f"{space / 1e9:.1f} GB", advice)
    hardware = machine.hardware()
    yield Finding("CPU", f"{hardware['cpu']}, {hardware['cores']} cores")


#: All checks, the slow one last.
CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_requirements,
    check_models,
    check_machine,
    check_gpus,
    check_plugin,
)
