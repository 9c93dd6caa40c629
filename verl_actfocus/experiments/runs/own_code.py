"""Whether a user's own weighting, estimator or environment is still the one that a run was trained with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from verl_actfocus.envs.registry import ENVIRONMENTS
from verl_actfocus.experiments.runs.estimators import ESTIMATOR_SECTION
from verl_actfocus.experiments.runs.weightings import SECTION
from verl_actfocus.storage.errors import ExperimentError

#: Names of the module and of its fingerprint; no setting can have them.
MODULE, CODE = "(module)", "(code)"


def own_code(config: DictConfig) -> dict[str, str]:
    """Return what changes with the code of a run's weighting, estimator and environment, where a user's module has it.

    Default settings and formula are nowhere else in what a run keeps of itself.

    Args:
        config: a complete veRL configuration.

    Returns:
        Section and `MODULE`, `CODE` → the name and the fingerprint of its module, as two settings more; nothing for
        what comes with this package.

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
        f"{section}.{name}": value
        for section, module in modules.items()
        if module and module.partition(".")[0] != package
        for name, value in ((MODULE, module), (CODE, fingerprint(module)))
    }


def own_modules(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the modules of the user's that runs train with, in the order in which they are found.

    Args:
        settings: of every run, with what `own_code` found.

    Example:
        >>> own_modules([{"algorithm.actfocus.weighting.(module)": "mine"}, {"data.seed": 0}])
        ['mine']
    """
    return list(dict.fromkeys(one[key] for one in settings for key in one if key.endswith(f".{MODULE}")))


def require_unchanged(composed: Mapping[str, Any], title: str) -> None:
    """Refuse to begin or to finish a run of which a module was changed since it was planned: what it trains with would
    not be what it keeps of itself.

    Args:
        composed: settings of the run, with what `own_code` found.
        title: of the run, for the message.

    Raises:
        ExperimentError: a module of the user's has changed, or is gone.
    """
    for key, before in composed.items():
        if not key.endswith(f".{MODULE}"):
            continue
        try:
            now = fingerprint(before)
        except ValueError as error:
            raise ExperimentError(f"{title}: {error}; it was there when the run was planned: put it back") from error
        if now != composed[key.removesuffix(MODULE) + CODE]:
            raise ExperimentError(
                f"{title}: the module {before} was changed while the command ran, so that its runs would not be of one "
                "method; give the command again, with another --out or after deleting the runs that were trained"
            )


def fingerprint(module: str) -> str:
    """Return what changes with the text of a module, whatever the system's line ends: 12 hexadecimal digits.

    Raises:
        ValueError: its file cannot be read.
    """
    try:
        found = find_spec(module)
        source = Path(str(found and found.origin)).read_text(encoding="utf-8")  # with "\n" at every line's end
    except (OSError, ImportError, UnicodeDecodeError) as error:
        raise ValueError(f"the code of the module {module} cannot be read: {error}") from error
    return sha256(source.encode()).hexdigest()[:12]
