"""What this package needs and whether it is there, without importing any of it."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from verl_actfocus.experiments.errors import ExperimentError

PACKAGE = "verl_actfocus"


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


def require_gpu() -> None:
    """Make sure that a run on GPUs has some: on this machine, or in the Ray cluster that RAY_ADDRESS names.

    Raises:
        ExperimentError: there are none; the message holds the remedy.
    """
    import torch

    if not torch.cuda.is_available() and not os.environ.get("RAY_ADDRESS"):
        raise ExperimentError(
            "torch finds no GPU here; run this on a GPU node, name a Ray cluster with RAY_ADDRESS, or train a "
            "miniature on the CPU (actfocus train cpu_<env>, a recipe with --trial, actfocus reproduce --scale cpu)"
        )
