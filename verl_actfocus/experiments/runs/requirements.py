"""What this package needs and whether it is there, without importing any of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from verl_actfocus.config.engines import FLASH_ATTENTION
from verl_actfocus.storage.errors import ExperimentError

PACKAGE = "verl_actfocus"
#: Asks every node of a cluster whether it has this package.
_NODES = "verl_actfocus.integration.nodes"


def required_python() -> SpecifierSet:
    """Return the Python versions that this package supports."""
    return SpecifierSet(metadata(PACKAGE)["Requires-Python"])


def requirements(*extras: str) -> list[Requirement]:
    """Return the distributions that this package requires here.

    Args:
        extras: return what these extras add instead.
    """
    found = [Requirement(text) for text in requires(PACKAGE) or []]
    always = [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]
    if not extras:
        return always
    wanted = [
        one
        for one in found
        if one not in always and one.marker and any(one.marker.evaluate({"extra": name}) for name in extras)
    ]
    return [Requirement(f"{one.name}{one.specifier}") for one in wanted]


def installed_version(requirement: Requirement) -> str | None:
    """Return the installed version of a distribution; None if it is missing."""
    try:
        return version(requirement.name)
    except PackageNotFoundError:
        return None


def remedy(requirement: Requirement) -> str | None:
    """Return how to meet a requirement; None if it is met. A local version such as 2.13.0+cpu counts as 2.13.0.

    Example:
        >>> remedy(Requirement("packaging>=1")) is None
        True
    """
    installed = installed_version(requirement)
    if installed is not None and requirement.specifier.contains(installed, prereleases=True):
        return None
    return f"pip install '{requirement}'"


def require_verl() -> None:
    """Make sure that the veRL this package is written for is installed.

    Raises:
        ExperimentError: it is not; the message holds the remedy.
    """
    for requirement in requirements():
        how = remedy(requirement)
        if requirement.name == "verl" and how is not None:
            found = installed_version(requirement) or "none"
            raise ExperimentError(f"training needs {requirement}, found {found}; {how}")


def require_gpu(*, alone: bool = False) -> None:
    """Make sure that a run on GPUs has some: on this machine, or in the Ray cluster that RAY_ADDRESS names.

    Args:
        alone: the run is for this machine, whatever cluster there is.

    Raises:
        ExperimentError: there are none, or they are not NVIDIA's; the message holds the remedy.
    """
    import torch

    if torch.version.hip is not None:
        raise ExperimentError(
            f"torch {torch.__version__} is built for AMD GPUs (ROCm {torch.version.hip}), which this package's "
            "training engines are not for; use NVIDIA GPUs (pip install -e '.[gpu]'), or train a miniature on the CPU"
        )
    if not torch.cuda.is_available() and (alone or not os.environ.get("RAY_ADDRESS")):
        cluster = "" if alone else "name a Ray cluster with RAY_ADDRESS, "
        raise ExperimentError(
            f"torch finds no GPU here; run this on a GPU node, {cluster}or train a miniature on the CPU (actfocus "
            "train cpu_<env>, a recipe with --trial, actfocus reproduce --scale cpu)"
        )


def require_attention(name: str) -> None:
    """Make sure that the attention of a run on this machine's GPUs is installed.

    Args:
        name: `attn_implementation` of its models.

    Raises:
        ExperimentError: it is flash attention and flash-attn is missing; the message holds both remedies.
    """
    # In a cluster it is the nodes that need it.
    if name == FLASH_ATTENTION and find_spec("flash_attn") is None and not os.environ.get("RAY_ADDRESS"):
        raise ExperimentError(
            f"attn_implementation={name} needs flash-attn, which is not installed; build it (actfocus doctor says "
            "with what), or train without it: actor_rollout_ref.model.override_config.attn_implementation=sdpa, or "
            "ATTENTION=sdpa before a script"
        )


def require_cluster(nodes: int, variables: Mapping[str, str]) -> None:
    """Make sure that a run on several nodes has a Ray cluster to join, with this package on all of its nodes.

    Args:
        nodes: of the run (`trainer.nnodes`).
        variables: environment variables of the run.

    Raises:
        ExperimentError: RAY_ADDRESS names no cluster, so that veRL would start a Ray of this machine alone and wait, or
            a node lacks something; the message says which and what.
    """
    if nodes == 1:
        return
    if os.environ.get("RAY_ADDRESS", "local") == "local":
        raise ExperimentError(
            f"trainer.nnodes={nodes}: a run on several nodes joins a Ray cluster; start one (ray start --head here, "
            "ray start --address=… on every other node) and set RAY_ADDRESS=auto"
        )
    # In a process of its own, which leaves neither a Ray nor veRL in this one.
    asked = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", _NODES, str(nodes)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, env={**os.environ, **variables},
    )  # fmt: skip
    if asked.returncode:
        said = [line for line in asked.stderr.splitlines() if line.strip()]
        raise ExperimentError(said[-1] if said else f"python -m {_NODES} ended with exit code {asked.returncode}")
