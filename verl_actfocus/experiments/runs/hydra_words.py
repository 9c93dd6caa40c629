"""Values and settings of this package as words of Hydra's grammar."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

#: veRL's: names the modules in which a user registers environments and weightings, with commas between them; every
#: process of a run imports them, and so does this package's command.
MODULES_VARIABLE = "VERL_USE_EXTERNAL_MODULES"


def key_of(override: str) -> str:
    """Return what an override such as `++trainer.logger=[file]` or `~trainer.logger` is about.

    Example:
        >>> key_of("++data.seed=3"), key_of("~data")
        ('data.seed', 'data')
    """
    return override.partition("=")[0].lstrip("+~")


def metrics_override(path: Path) -> str:
    """Return the Hydra override that lets veRL's `file` logger write to a path.

    It reaches the trainer through Ray, so also in a cluster that was started from another shell, where an environment
    variable of this process is unknown.
    """
    return _variable("VERL_FILE_LOGGER_PATH", str(path))


def modules_overrides() -> list[str]:
    """Return the Hydra overrides that let every process of a run import the user's modules, for the same reason.

    Ray puts a node's own PYTHONPATH, with which `ray start` may have found this package there, behind this process's.
    """
    modules, path = os.environ.get(MODULES_VARIABLE), os.environ.get("PYTHONPATH")
    if not modules:
        return []
    # Without braces, which would be an interpolation of OmegaConf's; where a node has none, the words stay, as the name
    # of a folder that does not exist.
    there = [_variable("PYTHONPATH", f"{path}{os.pathsep}$PYTHONPATH")] if path else []
    return [_variable(MODULES_VARIABLE, modules), *there]


def _variable(name: str, value: str) -> str:
    """Set an environment variable of all processes of a run."""
    return f"++ray_kwargs.ray_init.runtime_env.env_vars.{name}={in_hydra(value)}"


def in_hydra(value: Any) -> str:
    """Write a value in Hydra's grammar, in which a space, a comma or an equals sign means something."""
    if isinstance(value, list):
        return f"[{','.join(map(in_hydra, value))}]"
    # Without quotes Hydra's grammar knows no letter but those of ASCII.
    if not isinstance(value, str) or re.fullmatch(r"[\w./-]+", value, re.ASCII):
        return str(value)
    # Backslashes count as such except before a quote, that at the end included.
    return "'" + re.sub(r"(\\+)(?='|$)", r"\1\1", value).replace("'", r"\'") + "'"
