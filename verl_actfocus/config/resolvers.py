"""Values that the YAML files of this package look up: the tiny models that ship with it, and what they were made for.

Free of veRL, so that a configuration can be composed and checked without importing it.
"""

from __future__ import annotations

from dataclasses import asdict

from omegaconf import DictConfig, OmegaConf

from verl_actfocus import models


def register() -> None:
    """Register ``${actfocus.model:…}``, ``${actfocus.options:…}`` and ``${actfocus.limit:…}``; may be repeated."""
    OmegaConf.register_new_resolver("actfocus.model", packaged_model, replace=True)
    OmegaConf.register_new_resolver("actfocus.options", task_options, replace=True)
    OmegaConf.register_new_resolver("actfocus.limit", task_limit, replace=True)


def packaged_model(*names: str) -> str:
    """Return the folder of the first of these tiny models that ships with the package.

    Raises:
        ValueError: None of them ships; the message lists those that do.

    Example:
        >>> packaged_model("chess", "frozenlake").endswith("frozenlake")
        True
    """
    shipped = models.available()
    # The last name is looked up in any case, so that its error is raised.
    return str(models.folder(next((name for name in names if name in shipped), names[-1])))


def task_options(environment: str) -> DictConfig:
    """Return the arguments of the environment's class with which its tiny model was made; none without such a model.

    Example:
        >>> task_options("frozenlake")
        {'success_rate': 1.0}
    """
    from verl_actfocus.models.miniatures import MINIATURES  # every process of a run registers, few ask

    # As a configuration: OmegaConf.resolve, which veRL calls, does not take a plain dictionary.
    return OmegaConf.create(dict(MINIATURES[environment].env_options) if environment in MINIATURES else {})


def task_limit(environment: str, budget: str) -> int | None:
    """Return a budget of the task that the environment's tiny model was made for; the environment's own without one.

    Example:
        >>> task_limit("frozenlake", "actions_per_turn")
        2
    """
    from verl_actfocus.envs import spec
    from verl_actfocus.models.miniatures import MINIATURES

    limits = MINIATURES[environment].limits if environment in MINIATURES else spec(environment).limits
    return asdict(limits)[budget]
