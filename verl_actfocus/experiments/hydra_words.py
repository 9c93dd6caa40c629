"""Values and settings of this package as words of Hydra's grammar."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


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
    return f"++ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH={in_hydra(str(path))}"


def in_hydra(value: Any) -> str:
    """Write a value in Hydra's grammar, in which a space, a comma or an equals sign means something."""
    if isinstance(value, list):
        return f"[{','.join(map(in_hydra, value))}]"
    # Without quotes Hydra's grammar knows no letter but those of ASCII.
    if not isinstance(value, str) or re.fullmatch(r"[\w./-]+", value, re.ASCII):
        return str(value)
    # Backslashes count as such except before a quote, that at the end included.
    return "'" + re.sub(r"(\\+)(?='|$)", r"\1\1", value).replace("'", r"\'") + "'"
