"""What a run was made with: versions, commit, hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

import psutil

#: Distributions whose versions can change a result.
DISTRIBUTIONS = ("verl_actfocus", "verl", "torch", "transformers", "ray", "TransferQueue", "gymnasium", "numpy")
#: Where a container's control group (version 2) keeps its memory limit and use.
_CONTROL_GROUP = Path("/sys/fs/cgroup")

#: What a run on the CPU with a tiny model takes, in bytes, with all of veRL's processes.
MEMORY_OF_A_RUN = 5e9


def versions() -> dict[str, str]:
    """Return the versions of Python and of `DISTRIBUTIONS`; "not installed" where one is missing."""
    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """Return the commit of the checkout that this package runs from, "+changes" if files differ; None without one."""
    folder = str(files("verl_actfocus"))
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        # A package that was installed into somebody else's checkout is not that checkout's commit.
        tracked = _git(folder, "ls-files", "--", "__init__.py")
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return None if not tracked else f"{commit}+changes" if changes else commit


def hardware() -> dict[str, str | int | float]:
    """Return the CPU's model, the cores this process may use, the memory in GB (10⁹ bytes), and `gpus` if there are."""
    gpus = _gpus()
    return {
        **({"gpus": gpus} if gpus else {}),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(total_memory() / 1e9, 1),
    }


def total_memory() -> int:
    """Return the memory of this machine, or of this container if it has less, in bytes."""
    limit = _memory_limit()
    total = psutil.virtual_memory().total
    return total if limit is None else min(total, limit)


def free_memory() -> int:
    """Return the memory that a new process can get, in bytes; a container's limit counts."""
    free = psutil.virtual_memory().available
    limit = _memory_limit()
    if limit is None:
        return free
    used = int((_CONTROL_GROUP / "memory.current").read_text())
    # Cached files count as used, but give way to a process that asks for memory.
    statistics = dict(line.split() for line in (_CONTROL_GROUP / "memory.stat").read_text().splitlines())
    return min(free, limit - used + int(statistics["inactive_file"]))


def _memory_limit() -> int | None:
    path = _CONTROL_GROUP / "memory.max"
    text = path.read_text().strip() if path.exists() else "max"
    return None if text == "max" else int(text)


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpus() -> str:
    """Name NVIDIA's GPUs, such as "2 × NVIDIA H100 80GB HBM3"; empty where there are none."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=30,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    counted = Counter(line.strip() for line in listed.splitlines() if line.strip())
    return ", ".join(f"{count} × {name}" for name, count in counted.items())


def _git(folder: str, *arguments: str) -> str:
    result = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True)
    return result.stdout.strip()
