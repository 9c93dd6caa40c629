"""Whether a user's own weighting, estimator or environment is still the one that a run was trained with."""

from __future__ import annotations

import ast
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig

from verl_actfocus.envs.registry import ENVIRONMENTS
from verl_actfocus.experiments.estimators import ESTIMATOR_SECTION
from verl_actfocus.experiments.weightings import SECTION

#: No setting can have this name.
CODE = "(code)"


def own_code(config: DictConfig) -> dict[str, str]:
    """Return what changes with the code of a run's weighting, estimator and environment, where a user's module has it.

    Default settings and formula are nowhere else in what a run keeps of itself.

    Args:
        config: a complete veRL configuration.

    Returns:
        Section and `CODE` → the fingerprint of its module, as one setting more; nothing for what comes with this
        package.

    Raises:
        ValueError: a module cannot be read, or the configuration holds no valid scheme.
    """
    from verl_actfocus.config.settings import ActFocusSettings  # torch

    settings = ActFocusSettings.from_config(config)
    environment = ENVIRONMENTS.get(config.data.environment.name)
    modules = {
        SECTION: type(settings.weighting).__module__,
        ESTIMATOR_SECTION: type(settings.estimator).__module__,
        "data.environment": environment.entry_point.partition(":")[0] if environment else "",
    }
    package = __name__.partition(".")[0]
    return {
        f"{section}.{CODE}": fingerprint(module)
        for section, module in modules.items()
        if module and module.partition(".")[0] != package
    }


def fingerprint(module: str) -> str:
    """Return what changes with the code of a module, but not with its comments: 12 hexadecimal digits.

    Raises:
        ValueError: its file cannot be read.
    """
    found = find_spec(module)
    try:
        source = Path(str(found and found.origin)).read_text(encoding="utf-8")
        return sha256(ast.unparse(ast.parse(source)).encode()).hexdigest()[:12]
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"the code of the module {module} cannot be read: {error}") from error
