"""Names of the packaged configuration groups, looked up without Hydra."""

from __future__ import annotations

from importlib.resources import files


def packaged_groups(folder: str = "") -> list[str]:
    """Return the names of the packaged configuration groups under `+actfocus` or one of its folders.

    Example:
        >>> "uniform" in packaged_groups()
        True
    """
    root = files("verl_actfocus.config") / "actfocus"
    entries = (root / folder if folder else root).iterdir()
    names = (entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml"))
    return sorted(name for name in names if not name.startswith("_"))


def profiles() -> list[str]:
    """Return the names of the complete runs: miniatures for a CPU (`+actfocus/run`), then recipes for GPUs."""
    return [*packaged_groups("run"), *packaged_groups("recipe")]


def profile_folder(profile: str) -> str:
    """Return the folder of a profile's group: `run` for a miniature, `recipe` for GPUs.

    Raises:
        ValueError: there is no such profile; the message lists the names.
    """
    for folder in ("run", "recipe"):
        if profile in packaged_groups(folder):
            return folder
    raise ValueError(f"unknown profile {profile!r}: choose one of {', '.join(profiles())}")
