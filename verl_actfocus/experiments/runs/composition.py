"""The complete configuration behind a command line, composed by Hydra without starting veRL.

It shows a mistyped override in a second instead of after veRL's start, and says what an evaluation plays. This is the
one place that composes configurations; what follows for a run from its own is `composed_run`.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from verl_actfocus.config import resolvers
from verl_actfocus.config.groups import profile_folder
from verl_actfocus.experiments.runs.requirements import require_verl
from verl_actfocus.experiments.runs.run import ESTIMATORS, Run
from verl_actfocus.experiments.runs.weightings import ACTFOCUS
from verl_actfocus.storage.errors import ExperimentError


@cache
def compose(*overrides: str) -> DictConfig:
    """Compose veRL's configuration with this package's groups.

    Args:
        overrides: Hydra overrides.

    Returns:
        The configuration, interpolations unresolved, read-only.

    Raises:
        ExperimentError: veRL is not installed in the right version, or a group, a key or a value does not exist or
            cannot be parsed.
    """
    folder = _verl_config_folder()
    # The plugin tells veRL's command where the groups are and what they may look up; here nothing has loaded it.
    resolvers.register()
    search = "hydra.searchpath=[pkg://verl_actfocus.config]"
    try:
        with initialize_config_dir(str(folder), version_base=None):
            config = hydra_compose("ppo_trainer", overrides=[search, *overrides], return_hydra_config=True)
    except OverrideParseException as error:
        key, _, value = error.override.partition("=")
        raise ExperimentError(
            f"{error.override!r} is not in the grammar of Hydra's overrides; where the value has other characters than "
            f"letters, digits and ./_-, write it in quotes within quotes, \"{key}='{value}'\""
        ) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ExperimentError(first_sentence(error)) from error
    with open_dict(config):
        # Hydra's own section refers to a running job; it is only here so that hydra.run.dir can be overridden.
        del config["hydra"]
    OmegaConf.set_readonly(config, True)
    return config


def configuration(run: Run) -> DictConfig:
    """Compose a run's configuration; Hydra, which takes a second, reads once what all seeds and folders have in common.

    Returns:
        What `compose(*run.overrides())` returns.

    Raises:
        ExperimentError: as `compose`.
    """
    overrides, values = run.common_overrides()
    common = compose(*overrides)
    if not values:
        return common
    config = deepcopy(common)
    OmegaConf.set_readonly(config, False)
    for key, value in values.items():
        OmegaConf.update(config, key, value)
    OmegaConf.set_readonly(config, True)
    return config


def compose_profile(profile: str) -> DictConfig:
    """Compose the configuration of a profile by itself.

    Args:
        profile: a group under `+actfocus/run` or `+actfocus/recipe`.

    Raises:
        ValueError: there is no such profile; the message lists the names.
    """
    return compose(*ACTFOCUS.overrides(), f"+actfocus/{profile_folder(profile)}={profile}")


def subject(profile: str) -> tuple[str, str | None]:
    """Return the environment that a profile trains, and the algorithm: None if the profile leaves that open.

    Raises:
        ValueError: there is no such profile.

    Example:
        >>> subject("sokoban_ppo"), subject("cpu_sokoban")
        (('sokoban', 'ppo'), ('sokoban', None))
    """
    config = compose_profile(profile)
    algorithms = {estimator: algorithm for algorithm, estimator in ESTIMATORS.items()}
    return config.data.environment.name, algorithms.get(config.algorithm.adv_estimator)


@cache
def check_references(*overrides: str) -> None:
    """Refuse a reference to a setting that does not exist.

    Raises:
        OmegaConfBaseException: there is one.
    """
    OmegaConf.to_container(compose(*overrides), resolve=True)


def _verl_config_folder() -> Path:
    require_verl()
    spec = find_spec("verl")
    if spec is None or spec.origin is None:
        raise ExperimentError("the distribution verl is installed but its package cannot be found; reinstall it")
    return Path(spec.origin).parent / "trainer" / "config"


def first_sentence(error: Exception) -> str:
    """Return what a user needs of an error of Hydra's or OmegaConf's: its first two lines in one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:2])
